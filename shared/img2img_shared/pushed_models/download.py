"""Downloads a file from the store: resumes where an earlier download stopped, and verifies the hash."""

import hashlib
import os
from collections.abc import Callable
from typing import BinaryIO, Protocol

from img2img_shared.errors import WorkerError
from img2img_shared.pushed_models.pushed_model import ModelFile, PushedModel

#: bytes that one request asks for
PIECE = 16 * 1024 * 1024


class Damaged(WorkerError):
    """The downloaded bytes are not those that were pushed."""


class PartsGiver(Protocol):
    """A source of a model's parts: a store, or a gateway in front of one."""

    def read(self, model: PushedModel, start: int, size: int) -> bytes:
        """Up to `size` bytes, and at least one, from `start` on, of a model's files in sequence."""


def fetch_into(
    file: BinaryIO,
    model: PushedModel,
    wanted: ModelFile,
    giver: PartsGiver,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Append to `file`, which may hold the beginning already, the rest of one of a model's files.

    Args:
        file: open for reading and writing; nobody else writes to it.
        wanted: which of the model's files.
        progress: called repeatedly with the number of bytes of the model so far, earlier files included; what
            it raises is raised here, and the next call continues from there.

    Raises:
        Damaged: the bytes do not have the hash; the file is emptied.
        OSError: it cannot be written.
    """
    had = os.fstat(file.fileno()).st_size
    found = _fetch_missing(file, model, wanted, giver, progress)
    if found != wanted.sha256 and had:  # a power cut may have damaged what was here before
        file.truncate(0)
        found = _fetch_missing(file, model, wanted, giver, progress)
    if found != wanted.sha256:
        file.truncate(0)
        which = f"{model.kind} {model.name}" + ("" if wanted.path == model.file_name else f" ({wanted.path})")
        raise Damaged(
            f"{which} in the store is damaged: its SHA-256 is {found}, and {wanted.sha256} "
            f"was pushed; remove it and push it again (img2img models rm {model.short_hash})"
        )
    os.fsync(file.fileno())


def _fetch_missing(
    file: BinaryIO, model: PushedModel, wanted: ModelFile, giver: PartsGiver, progress: Callable[[int], None]
) -> str:
    """Append what is missing, and return the SHA-256 of the whole file."""
    digest, size = hashlib.sha256(), 0
    before = sum(each.size for each in model.contents[: model.contents.index(wanted)])
    file.seek(0)
    while piece := file.read(PIECE):
        digest.update(piece)
        size += len(piece)
        progress(before + size)
    while size < wanted.size and (piece := giver.read(model, before + size, min(PIECE, wanted.size - size))):
        file.write(piece)
        digest.update(piece)
        size += len(piece)
        progress(before + size)
    file.flush()
    return digest.hexdigest()
