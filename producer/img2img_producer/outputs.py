"""How finished pictures are called on disk, and how they get there."""

import hashlib
import tempfile
import uuid
from collections.abc import Container, Sequence
from pathlib import Path

from img2img_producer.inputs import Picture, Source
from img2img_shared.errors import FarmError, Refused
from img2img_shared.farm.output_names import OutputNames
from img2img_shared.job import result_key
from img2img_shared.params import Params


def save(data: bytes, path: Path, originals: Container[str] = (), *, overwrite: bool = False) -> None:
    """Write a picture whole or not at all. Where it lies already, nothing is done.

    Args:
        originals: SHA-256 of the job's inputs, as hexadecimal digits: these are never overwritten.
        overwrite: whether other files are.

    Raises:
        Refused: what lies there is another file.
        FarmError: it cannot be written.
    """
    try:
        if path.exists():
            there = _digest(path)
            if there == hashlib.sha256(data).hexdigest():
                return
            if there in originals:
                raise Refused(
                    "out", str(path.parent), f"{path.name} there is an input of this job; give another folder"
                )
            if not overwrite:
                raise _is_taken(path.parent, path.name)
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
        raise Refused(
            "out", str(folder), f"cannot be written to ({error.strerror}); give another folder"
        ) from None


def refuse_overwriting(
    pictures: Sequence[Picture], mask: Source | None, params: Params, folder: Path, *, overwrite: bool = False
) -> None:
    """That no result would go where one of these pictures, or a mask, lies; before anything is done.

    Args:
        overwrite: whether a result may go where any other file lies.

    Raises:
        Refused: names the file.
    """
    sources = [mask, *(source for picture in pictures for source in picture.pictures.values())]
    originals = {Path(source).resolve() for source in sources if isinstance(source, str | Path)}
    extension = Path(result_key("any", 0, params.output_format)).suffix
    labels, folders, paths = zip(*((each.label, each.folder, each.path) for each in pictures), strict=True)
    is_filled = folder.is_dir() and any(folder.iterdir())
    for name in OutputNames(labels, params.images_per_input, extension, folders, paths):
        if (folder / name).resolve() in originals:
            raise Refused("out", str(folder), f"{name} there is an input; give another folder")
        if is_filled and not overwrite and (folder / name).exists():
            raise _is_taken(folder, name)


def _is_taken(folder: Path, name: str) -> Refused:
    return Refused("out", str(folder), f"it has another {name}; give another folder, or --overwrite")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
