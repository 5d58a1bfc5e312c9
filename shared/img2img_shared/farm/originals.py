"""What a job was made from, as far as its results need it: their names, and what they never overwrite."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from img2img_shared.job import PAGE, Job, inputs_key, picture_digest, result_key
from img2img_shared.store import Store
from img2img_shared.wire import decode_inputs

#: bytes of a stem; leaves room for "-123456.webp" within a file system's 255
_LONGEST = 200
#: a stem such as "cat-2", as further outputs are called
_NUMBERED = re.compile(r"(.*)-([1-9][0-9]*)", re.DOTALL)


class OutputNames(Sequence[str]):
    """The file name of each output of a job, by its index: its input's stem, with -2, -3, ... for more.

    No two are alike, not even where case does not count, so that inputs of one name from different folders,
    or one called like another's second output, keep apart. A function of its arguments: whoever fetches a
    job, today or tomorrow, gets the same names. What it holds grows with the inputs, not with the outputs.

    Args:
        names: of the inputs, in order; None where there is none, or one that is no file name.
        per_input: outputs of each input.
        extension: of the files, with its dot.
        folders: where each input's outputs go, "/" between their parts; None: at the top.

    >>> list(OutputNames(["cat", "dog", "cat"], 2, ".png"))
    ['cat.png', 'cat-2.png', 'dog.png', 'dog-2.png', 'cat-3.png', 'cat-4.png']
    """

    def __init__(
        self,
        names: Sequence[str | None],
        per_input: int,
        extension: str = "",
        folders: Sequence[str | None] | None = None,
    ) -> None:
        self._stems = [_file_stem(name, index) for index, name in enumerate(names)]
        if folders is not None:
            both = zip(folders, self._stems, strict=True)
            self._stems = [f"{folder}/{stem}" if folder else stem for folder, stem in both]
        self._per_input = per_input
        self._extension = extension
        #: for each input: how many numbers its name has given out before it; None: it is the name's first
        self._before: list[int | None] = []
        given: dict[str, int] = {}
        for stem in self._stems:
            name = stem.casefold()
            self._before.append(given.get(name))
            given[name] = given.get(name, -1) + per_input
        #: numbers that a name may not give out, ascending: another input is called so already
        self._taken = {name: numbers for name, numbers in _numbered(given) if name in given}

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
        stem, before = self._stems[at], self._before[at]
        if before is None and repeat == 0:
            return stem + self._extension
        place = repeat - 1 if before is None else before + repeat
        return f"{stem}-{self._number(stem.casefold(), place)}{self._extension}"

    def _number(self, name: str, place: int) -> int:
        """The number at `place`, counting from 0, among those from 2 on that are not taken."""
        taken = self._taken.get(name, [])
        skipped = bisect_right(range(len(taken)), place + 2, key=lambda i: taken[i] - i)
        return place + 2 + skipped


@dataclass(frozen=True, kw_only=True)
class Originals:
    """What a job was made from, as far as its results need it."""

    #: file names of the outputs, in order
    names: OutputNames
    #: SHA-256 of the inputs, which a result never overwrites
    digests: frozenset[str]


def read_originals(store: Store, job: Job) -> Originals:
    """The output names and input digests of a job, from its pages.

    Raises:
        StoreError, WireError: a page cannot be read.
    """
    labels: list[str | None] = []
    folders: list[str | None] = []
    digests: set[str] = set()
    for page in range(-(-job.n_inputs // PAGE)):
        for item in decode_inputs(store.get(inputs_key(job.id, page))):
            labels.append(item.name)
            folders.append(item.folder)
            digests.update(map(picture_digest, item.pictures.values()))
    digests.update(map(picture_digest, job.pictures.values()))
    extension = Path(result_key(job.id, 0, job.params.output_format)).suffix
    names = OutputNames(labels, job.params.images_per_input, extension, folders)
    return Originals(names=names, digests=frozenset(digests))


def _numbered(names: Iterable[str]) -> Iterator[tuple[str, list[int]]]:
    """Of names such as "cat-12": what stands before the number, and every number from 2 on that it has."""
    found: dict[str, list[int]] = {}
    for name in names:
        if match := _NUMBERED.fullmatch(name):
            found.setdefault(match[1], []).append(int(match[2]))
    for name, numbers in found.items():
        yield name, sorted(number for number in numbers if number > 1)


def _file_stem(name: str | None, index: int) -> str:
    """A name that others chose, as a file name: no folders, nothing hidden, not too long."""
    kept = re.sub(r"[/\\\x00-\x1f\x7f-\x9f]", "_", name or "").strip().lstrip(".")
    kept = kept.encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "ignore")
    return kept or f"{index:05d}"
