"""The file names of a job's outputs, each of which shows the input it came from."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import overload

#: bytes of a stem; leaves room for "-123456.webp" within a file system's 255
_LONGEST = 200
#: a stem that ends in a number, as further outputs do
_NUMBERED = re.compile(r"(.*[^0-9])([1-9][0-9]*)", re.DOTALL)


class OutputNames(Sequence[str]):
    """The file name of each output of a job, by its index: its input's stem, with -2, -3, ... for more.

    Inputs of one stem go by as much of their path as tells them apart: "dup.jpg" and "dup.png", "a_cat" and
    "b_cat"; by a number where nothing does. Where an input is called like another's further output, all of
    these have more dashes. No two names are alike, not even where case does not count. A function of its
    arguments: whoever fetches a job, today or tomorrow, gets the same names. What it holds grows with the
    inputs, not with the outputs.

    Args:
        names: of the inputs, in order; None where there is none, or one that is no file name.
        per_input: outputs of each input.
        extension: of the files, with its dot.
        folders: where each input's outputs go, "/" between their parts; None: at the top.
        paths: where each input came from, as far as it is known.

    >>> list(OutputNames(["cat", "dog"], 2, ".png"))
    ['cat.png', 'cat-2.png', 'dog.png', 'dog-2.png']
    >>> list(OutputNames(["cat", "cat-2"], 2))
    ['cat', 'cat--2', 'cat-2', 'cat-2--2']
    >>> list(OutputNames(["cat", "cat"], 1, ".png", paths=["cat.jpg", "cat.webp"]))
    ['cat.jpg.png', 'cat.webp.png']
    """

    def __init__(
        self,
        names: Sequence[str | None],
        per_input: int,
        extension: str = "",
        folders: Sequence[str | None] | None = None,
        paths: Sequence[str | None] | None = None,
    ) -> None:
        nothing = [None] * len(names)
        self._stems = _distinct(names, folders or nothing, paths or nothing)
        self._per_input = per_input
        self._extension = extension
        self._dashes = _dashes({stem.casefold() for stem in self._stems}, per_input)

    def __len__(self) -> int:
        return len(self._stems) * self._per_input

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        at, repeat = divmod(index, self._per_input)
        number = f"{self._dashes}{repeat + 1}" if repeat else ""
        return f"{self._stems[at]}{number}{self._extension}"


def _distinct(
    names: Sequence[str | None], folders: Sequence[str | None], paths: Sequence[str | None]
) -> list[str]:
    """A folder and a stem for each input, no two alike."""
    places = [f"{folder}/" if folder else "" for folder in folders]
    stems = [places[index] + _file_stem(name, index) for index, name in enumerate(names)]
    groups: dict[str, list[int]] = {}
    for index, stem in enumerate(stems):
        groups.setdefault(stem.casefold(), []).append(index)
    taken = set(groups)
    for group in groups.values():
        if len(group) > 1:
            told_apart = _by_path([(places[index], names[index], paths[index]) for index in group], taken)
            if told_apart is None:
                told_apart = _by_number([stems[index] for index in group], taken)
            for index, stem in zip(group, told_apart, strict=True):
                stems[index] = stem
                taken.add(stem.casefold())
    return stems


def _by_path(inputs: Sequence[tuple[str, str | None, str | None]], taken: set[str]) -> list[str] | None:
    """Stems from as much of each input's path as is needed to tell them apart, or None if nothing does.

    Args:
        inputs: the folder where its outputs go, the name and the path of each.
    """
    places, names, paths = zip(*inputs, strict=True)
    files = [PurePosixPath(path or "") for path in paths]
    if any(not name or name != file.stem for name, file in zip(names, files, strict=True)):
        return None  # a name that was chosen is not the file's
    shared = (places[0] + _file_stem(names[0], 0)).casefold()
    for count in range(1, max(len(file.parts) for file in files) + 1):
        for shown in ([file.with_suffix("") for file in files], files):
            ends = [_file_stem("/".join(file.parts[-count:]), 0) for file in shown]
            stems = [place + end for place, end in zip(places, ends, strict=True)]
            keys = {stem.casefold() for stem in stems}
            if len(keys) == len(stems) and not (keys - {shared}) & taken:
                return stems
    return None


def _by_number(stems: Sequence[str], taken: set[str]) -> list[str]:
    """The first of `stems`, which are alike, and the others with _2, _3, ..., avoiding what is taken."""
    numbered = [stems[0]]
    number = 2
    for stem in stems[1:]:
        while f"{stem}_{number}".casefold() in taken:
            number += 1
        numbered.append(f"{stem}_{number}")
        number += 1
    return numbered


def _dashes(stems: set[str], per_input: int) -> str:
    """The dashes before the number of a further output: as many as it takes not to look like an input."""
    matches = [match for stem in stems if (match := _NUMBERED.fullmatch(stem))]
    heads = {match[1] for match in matches if len(match[2]) < 9 and 1 < int(match[2]) <= per_input}
    dashes = "-"
    while any(head.endswith(dashes) and head[: -len(dashes)] in stems for head in heads):
        dashes += "-"
    return dashes


def _file_stem(name: str | None, index: int) -> str:
    """A name that somebody chose, made safe as a file name: without folders, not hidden, not too long."""
    kept = re.sub(r"[/\\\x00-\x1f\x7f-\x9f]", "_", name or "").strip().lstrip(".")
    kept = kept.encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "ignore")
    return kept or f"{index:05d}"
