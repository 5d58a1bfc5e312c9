"""How finished pictures are called on disk, and how they get there."""

import hashlib
import re
import tempfile
import uuid
from collections.abc import Container, Sequence
from pathlib import Path

from img2img_producer.inputs import Picture, Source
from img2img_shared.errors import FarmError, Refused
from img2img_shared.job import result_key
from img2img_shared.params import Params

#: bytes of a stem; leaves room for "-123456.webp" within a file system's 255
_LONGEST = 200


def output_stems(names: Sequence[str | None], per_input: int) -> list[str]:
    """The file stem of each output of a job: its input's, with -2, -3, ... for the outputs that follow.

    No two are alike, not even where case does not count, so that inputs of one name from different folders,
    or one called like another's second output, keep apart. A function of its arguments: whoever fetches a
    job, today or tomorrow, gets the same names.

    Args:
        names: of the inputs, in order; None where there is none, or one that is no file name.
        per_input: outputs of each input.

    >>> output_stems(["cat", "dog", "cat"], 2)
    ['cat', 'cat-2', 'dog', 'dog-2', 'cat-3', 'cat-4']
    """
    stems = [_file_stem(name, index) for index, name in enumerate(names)]
    taken: set[str] = set()
    outputs: list[str | None] = []
    for stem in stems:  # names as they are go first, so that "cat-2" is not taken from its owner
        outputs.append(None if stem.casefold() in taken else stem)
        outputs += [None] * (per_input - 1)
        taken.add(stem.casefold())
    numbers: dict[str, int] = {}
    result = []
    for index, output in enumerate(outputs):
        stem = stems[index // per_input]
        if output is None:
            number = numbers.get(stem, 1) + 1
            while f"{stem}-{number}".casefold() in taken:
                number += 1
            numbers[stem] = number
            output = f"{stem}-{number}"
            taken.add(output.casefold())
        result.append(output)
    return result


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
    for stem in output_stems([picture.label for picture in pictures], params.images_per_input):
        if (folder / (stem + extension)).resolve() in originals:
            raise Refused("out", str(folder), f"another folder: {stem}{extension} there is an input")


def _file_stem(name: str | None, index: int) -> str:
    """A name that others chose, as a file name: no folders, nothing hidden, not too long."""
    kept = re.sub(r"[/\\\x00-\x1f\x7f-\x9f]", "_", name or "").strip().lstrip(".")
    kept = kept.encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "ignore")
    return kept or f"{index:05d}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
