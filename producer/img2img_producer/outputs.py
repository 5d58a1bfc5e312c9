"""How finished pictures are called on disk, and how they get there."""

import hashlib
import re
import tempfile
import uuid
from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

from img2img_producer.inputs import Picture, Source
from img2img_shared.errors import FarmError, Refused
from img2img_shared.job import result_key
from img2img_shared.params import Params

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

    >>> list(OutputNames(["cat", "dog", "cat"], 2, ".png"))
    ['cat.png', 'cat-2.png', 'dog.png', 'dog-2.png', 'cat-3.png', 'cat-4.png']
    """

    def __init__(self, names: Sequence[str | None], per_input: int, extension: str = "") -> None:
        self._stems = [_file_stem(name, index) for index, name in enumerate(names)]
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


def _numbered(names: Iterable[str]) -> Iterator[tuple[str, list[int]]]:
    """Of names such as "cat-12": what stands before the number, and every number from 2 on that it has."""
    found: dict[str, list[int]] = {}
    for name in names:
        if match := _NUMBERED.fullmatch(name):
            found.setdefault(match[1], []).append(int(match[2]))
    for name, numbers in found.items():
        yield name, sorted(number for number in numbers if number > 1)


def save(data: bytes, path: Path, originals: Container[str] = ()) -> None:
    """Write a picture whole or not at all, over an earlier result but never over an original.

    Args:
        originals: SHA-256 of the job's inputs, as hexadecimal digits.

    Raises:
        Refused: what lies there is one of them.
        FarmError: it cannot be written.
    """
    try:
        if path.exists() and _digest(path) in originals:
            raise Refused(
                "out", str(path.parent), f"another folder: {path.name} there is an input of this job"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".img2img-{uuid.uuid4().hex}")
        try:
            with part.open("xb") as file:
                file.write(data)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FarmError(f"cannot write {path}: {error.strerror}") from None


def writable_folder(folder: Path) -> None:
    """Make `folder`, and see that files can be written there, before anything is rendered for it.

    Raises:
        Refused: it cannot be made, or is read-only.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Refused("out", str(folder), f"a folder that can be written to ({error.strerror})") from None


def refuse_overwriting(
    pictures: Sequence[Picture], mask: Source | None, params: Params, folder: Path
) -> None:
    """That no result would go where one of these pictures, or a mask, lies; before anything is done.

    Raises:
        Refused: names the file.
    """
    sources = [mask, *(source for picture in pictures for source in (picture.image, picture.mask))]
    originals = {Path(source).resolve() for source in sources if isinstance(source, str | Path)}
    extension = Path(result_key("any", 0, params.output_format)).suffix
    for name in OutputNames([picture.label for picture in pictures], params.images_per_input, extension):
        if (folder / name).resolve() in originals:
            raise Refused("out", str(folder), f"another folder: {name} there is an input")


def _file_stem(name: str | None, index: int) -> str:
    """A name that others chose, as a file name: no folders, nothing hidden, not too long."""
    kept = re.sub(r"[/\\\x00-\x1f\x7f-\x9f]", "_", name or "").strip().lstrip(".")
    kept = kept.encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "ignore")
    return kept or f"{index:05d}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
