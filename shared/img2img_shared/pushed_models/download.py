"""A file on its way out of the store: gone on with where it broke off, and held against its hash."""

import hashlib
import os
from collections.abc import Callable
from typing import BinaryIO, Protocol

from img2img_shared.errors import WorkerError
from img2img_shared.pushed_models.pushed_model import PushedModel

#: bytes that one request asks for
PIECE = 16 * 1024 * 1024


class Damaged(WorkerError):
    """What was fetched is not what was pushed."""


class PartsGiver(Protocol):
    """Who has the parts of a file: a store, or a gateway before it."""

    def read(self, model: PushedModel, start: int, size: int) -> bytes:
        """Up to `size` bytes of a file from `start` on, one at least."""


def fetch_into(
    file: BinaryIO, model: PushedModel, giver: PartsGiver, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Append to `file`, which may have the beginning already, what it lacks of a model.

    Args:
        file: open for reading and writing; nobody else writes to it.
        progress: told how many bytes there are, again and again; what it raises, comes through, and the next
            call goes on from there.

    Raises:
        Damaged: what the store has is not what its hash says; the file is empty then.
        OSError: it cannot be written.
    """
    had = os.fstat(file.fileno()).st_size
    found = _fetched(file, model, giver, progress)
    if found != model.sha256 and had:  # a power cut may have damaged what was here before
        file.truncate(0)
        found = _fetched(file, model, giver, progress)
    if found != model.sha256:
        file.truncate(0)
        raise Damaged(
            f"{model.kind} {model.name} in the store is damaged: its SHA-256 is {found}, and {model.sha256} "
            f"was pushed; remove it and push it again (img2img models rm {model.short_hash})"
        )
    os.fsync(file.fileno())


def _fetched(file: BinaryIO, model: PushedModel, giver: PartsGiver, progress: Callable[[int], None]) -> str:
    """The SHA-256 of all of it, once what is missing was appended."""
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    while piece := file.read(PIECE):
        digest.update(piece)
        size += len(piece)
        progress(size)
    while size < model.size and (piece := giver.read(model, size, PIECE)):
        file.write(piece)
        digest.update(piece)
        size += len(piece)
        progress(size)
    file.flush()
    return digest.hexdigest()
