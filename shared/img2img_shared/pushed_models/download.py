"""A file on its way out of the store: gone on with where it broke off, and held against its hash."""

import hashlib
import os
from collections.abc import Callable
from typing import BinaryIO, Protocol

from img2img_shared.errors import WorkerError
from img2img_shared.pushed_models.pushed_model import ModelFile, PushedModel

#: bytes that one request asks for
PIECE = 16 * 1024 * 1024


class Damaged(WorkerError):
    """What was fetched is not what was pushed."""


class PartsGiver(Protocol):
    """Who has the parts of a model: a store, or a gateway before it."""

    def read(self, model: PushedModel, start: int, size: int) -> bytes:
        """Up to `size` bytes of a model's files, as one, from `start` on; one at least."""


def fetch_into(
    file: BinaryIO,
    model: PushedModel,
    wanted: ModelFile,
    giver: PartsGiver,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Append to `file`, which may have the beginning already, what it lacks of one of a model's files.

    Args:
        file: open for reading and writing; nobody else writes to it.
        wanted: one of the model's contents.
        progress: told again and again how many bytes of the model there are, with those of the files before
            this one; what it raises, comes through, and the next call goes on from there.

    Raises:
        Damaged: what the store has is not what its hash says; the file is empty then.
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
    """The SHA-256 of all of it, once what is missing was appended."""
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
