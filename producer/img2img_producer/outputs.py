"""Saves finished pictures to disk."""

import hashlib
import tempfile
import uuid
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from img2img_producer.inputs import Picture, Source
from img2img_shared.errors import FarmError, Refused
from img2img_shared.farm.output_names import OutputNames
from img2img_shared.job import result_key
from img2img_shared.params import Params


def save(data: bytes, path: Path, originals: Container[str] = (), *, overwrite: bool = False) -> None:
    """Write a picture whole or not at all. If the same picture is there already, do nothing.

    Args:
        originals: SHA-256 of the job's inputs, in hexadecimal: these are never overwritten.
        overwrite: whether other files may be overwritten.

    Raises:
        Refused: another file is there.
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
                raise Taken(path.parent, path.name)
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
    """Create `folder`, and check that files can be written there, before anything is rendered for it.

    Raises:
        Refused: it cannot be created, or is read-only.
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
    pictures: Sequence[Picture],
    for_all: Iterable[Source],
    params: Params,
    folder: Path,
    *,
    overwrite: bool = False,
) -> None:
    """Check, before anything is done, that no result would overwrite one of these pictures.

    Args:
        for_all: pictures that all inputs share.
        overwrite: whether a result may overwrite other files.

    Raises:
        Refused: names the file.
    """
    extension = Path(result_key("any", 0, params.output_format)).suffix
    labels, folders, paths = zip(*((each.label, each.folder, each.path) for each in pictures), strict=True)
    there_now = folder.resolve()  # which "new/.." may be, too
    is_filled = there_now.is_dir() and any(there_now.iterdir())
    names = OutputNames(labels, params.images_per_input, extension, folders, paths) if is_filled else ()
    there = {(there_now / name).resolve(): name for name in names if (there_now / name).exists()}
    for source in _files(pictures, for_all) if there else ():
        if name := there.get(source.resolve()):
            raise Refused("out", str(folder), f"{name} there is an input; give another folder")
    if there and not overwrite:
        raise Taken(folder, min(there.values()))


def _files(pictures: Sequence[Picture], for_all: Iterable[Source]) -> Iterator[Path]:
    sources = (source for picture in pictures for source in picture.pictures.values())
    yield from (Path(each) for each in chain(sources, for_all) if isinstance(each, str | Path))


class Taken(Refused):
    """Another file is where a result should go."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__("out", str(folder), f"it has another {name}; give another folder, or --overwrite")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
