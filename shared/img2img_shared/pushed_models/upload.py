"""A file on its way into the store: part by part, each once, whoever takes them."""

import hashlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from img2img_shared.errors import Refused
from img2img_shared.farm.patience import await_result
from img2img_shared.pushed_models.model_objects import PART

#: parts on their way at a time
_AT_ONCE = 4
#: bytes that are hashed between two signs of progress
_PIECE = 16 * 1024 * 1024

#: told how many bytes of a file are done
Progress = Callable[[int], None]


class PartsTaker(Protocol):
    """Who takes the parts of a file: a store, or a gateway before it."""

    def sizes(self, sha256: str) -> dict[int, int]:
        """Bytes of the parts that are there, by their numbers."""

    def put_part(self, sha256: str, number: int, data: bytes) -> None:
        """Take one part whole."""


def hash_of(path: Path, progress: Progress = lambda _: None) -> tuple[str, int]:
    """SHA-256 of a file, in hexadecimal digits, and its size in bytes.

    Raises:
        Refused: it cannot be read, or is empty.
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
    if not size:
        raise Refused("file", str(path), "it is empty; give a file of weights")
    return digest.hexdigest(), size


def send(
    path: Path,
    sha256: str,
    size: int,
    taker: PartsTaker,
    progress: Progress = lambda _: None,
    part: int = PART,
) -> None:
    """Have all parts of a file taken that are not there yet.

    Raises:
        Refused: the file has changed since it was hashed.
        StoreError, Unavailable, ...: as `taker`; what was taken by then need not be sent again.
    """
    there = taker.sizes(sha256)
    done = 0
    waiting: list[tuple[Future[None], int]] = []
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="push")
    try:
        with path.open("rb") as file:
            for number in range(-(-size // part)):
                wanted = min(part, size - number * part)
                if there.get(number) == wanted:
                    done += wanted
                    progress(done)
                    continue
                file.seek(number * part)
                if len(data := file.read(wanted)) != wanted:
                    raise Refused("file", str(path), "it has changed meanwhile; push it again")
                waiting.append((pool.submit(taker.put_part, sha256, number, data), wanted))
                while len(waiting) >= _AT_ONCE:
                    done += _taken(waiting)
                    progress(done)
            while waiting:
                done += _taken(waiting)
                progress(done)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _taken(waiting: list[tuple[Future[None], int]]) -> int:
    future, size = waiting.pop(0)
    await_result(future)
    return size
