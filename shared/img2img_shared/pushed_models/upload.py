"""Uploads a model's files, part by part, each once, to a store or a gateway."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from img2img_shared.errors import Refused
from img2img_shared.farm.patience import await_result
from img2img_shared.pushed_models.model_objects import PART
from img2img_shared.pushed_models.pushed_model import NewModel

#: parts on their way at a time
_AT_ONCE = 4
#: bytes that are hashed between two signs of progress
_PIECE = 16 * 1024 * 1024

#: told how many bytes of a file are done
Progress = Callable[[int], None]


class PartsTaker(Protocol):
    """A destination for a model's parts: a store, or a gateway in front of one."""

    def sizes(self, sha256: str) -> dict[int, int]:
        """The size in bytes of each part that is there, by its number."""

    def put_part(self, sha256: str, number: int, data: bytes) -> None:
        """Store one whole part."""


def hash_of(path: Path, progress: Progress = lambda _: None) -> tuple[str, int]:
    """SHA-256 of a file, in hexadecimal, and its size in bytes.

    Raises:
        Refused: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
                progress(size)
    except OSError as error:
        raise Refused("file", str(path), f"it cannot be read ({error.strerror}); give a file") from None
    return digest.hexdigest(), size


def send(
    paths: Sequence[Path],
    model: NewModel,
    taker: PartsTaker,
    progress: Progress = lambda _: None,
    part: int = PART,
) -> None:
    """Upload all parts of a model that are not there yet.

    Args:
        paths: its files, in the order of its contents.

    Raises:
        Refused: a file has changed since it was hashed.
        StoreError, Unavailable, ...: from `taker`; parts it has taken need not be sent again.
    """
    there = taker.sizes(model.sha256)
    # a file's hash does not tell what lies beside it: an earlier push may have left parts of other such files
    told = model.size // part if model.ending and model.files else -(-model.total // part)
    done = 0
    waiting: list[tuple[Future[None], int]] = []
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="push")
    try:
        for number in range(-(-model.total // part)):
            wanted = min(part, model.total - number * part)
            if there.get(number) == wanted and number < told:
                done += wanted
                progress(done)
                continue
            data = _read(paths, model, number * part, wanted)
            waiting.append((pool.submit(taker.put_part, model.sha256, number, data), wanted))
            while len(waiting) >= _AT_ONCE:
                done += _await_first(waiting)
                progress(done)
        while waiting:
            done += _await_first(waiting)
            progress(done)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _read(paths: Sequence[Path], model: NewModel, start: int, size: int) -> bytes:
    """Bytes of a model's files in sequence."""
    read, before = bytearray(), 0
    for path, each in zip(paths, model.contents, strict=True):
        place, end = max(start - before, 0), min(start + size - before, each.size)
        before += each.size
        if place >= end:
            continue
        with path.open("rb") as file:
            file.seek(place)
            data = file.read(end - place)
        if len(data) != end - place:
            raise Refused("file", str(path), "it has changed meanwhile; push it again")
        read += data
    return bytes(read)


def _await_first(waiting: list[tuple[Future[None], int]]) -> int:
    future, size = waiting.pop(0)
    await_result(future)
    return size
