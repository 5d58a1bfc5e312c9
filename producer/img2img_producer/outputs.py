"""How finished pictures are called on disk, and how they get there."""

import hashlib
import tempfile
import uuid
from collections.abc import Container, Sequence
from pathlib import Path

from img2img_producer.inputs import Picture, Source
from img2img_shared.errors import FarmError, Refused
from img2img_shared.farm.originals import OutputNames
from img2img_shared.job import result_key
from img2img_shared.params import Params


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
    sources = [mask, *(source for picture in pictures for source in picture.pictures.values())]
    originals = {Path(source).resolve() for source in sources if isinstance(source, str | Path)}
    extension = Path(result_key("any", 0, params.output_format)).suffix
    labels, folders = [picture.label for picture in pictures], [picture.folder for picture in pictures]
    for name in OutputNames(labels, params.images_per_input, extension, folders):
        if (folder / name).resolve() in originals:
            raise Refused("out", str(folder), f"another folder: {name} there is an input")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
