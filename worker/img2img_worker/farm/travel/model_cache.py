"""Files of weights that were fetched from the store, kept on this machine while there is room."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from img2img_shared.errors import WorkerError
from img2img_shared.pushed_models.download import PartsGiver, fetch_into
from img2img_shared.pushed_models.pushed_model import PushedModel

#: what the file is called that is not whole yet; who has it locked is fetching it
_PARTIAL = ".partial"

#: waits a moment, and raises if what is asked for is not wanted any more
Pause = Callable[[], None]


class CachedFile:
    """A file of the cache, which stays there for as long as anybody on this machine has such an object."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file  # with a lock that is shared

    def close(self) -> None:
        """It may make room from now on."""
        self._file.close()

    def __del__(self) -> None:
        self.close()


@dataclass(frozen=True)
class _Kept:
    """What the cache has of one file: whole, or its beginning."""

    folder: Path
    path: Path
    size: int
    used: float


class ModelCache:
    """A folder that the processes of a machine may share: each file is fetched once, by one of them.

    ``<sha256>/<file name>`` is a whole file, whose bytes have been held against their hash;
    ``<sha256>/.partial`` is what was fetched so far. A folder's time is when its file was used last.

    Args:
        limit: bytes, at most; files in use do not make room.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit

    @property
    def has_room(self) -> bool:
        """Whether anything may be fetched at all."""
        return self._limit > 0

    @property
    def hashes(self) -> list[str]:
        """SHA-256 of the files that are here."""
        return [each.folder.name for each in self._kept() if each.path.name != _PARTIAL]

    def fetch(
        self,
        model: PushedModel,
        giver: PartsGiver,
        pause: Pause,
        progress: Callable[[int], None] = lambda _: None,
    ) -> CachedFile:
        """A model's file; whoever else on this machine fetches it at the moment is waited for.

        Args:
            pause: called while it is waited for.
            progress: called after each piece; what it raises ends the fetch, which the next one goes on with.

        Raises:
            Damaged: what the store has is not what was pushed.
            WorkerError: there is no room for it.
            StoreError: the store does not give it.
        """
        path = self._folder / model.sha256 / model.file_name
        while True:
            if (found := _held(path)) is not None:
                return found
            with _alone(path.with_name(_PARTIAL), pause) as file:
                if file is None or path.exists():
                    continue
                self._make_room(model)
                try:
                    fetch_into(file, model, giver, progress)
                    path.with_name(_PARTIAL).replace(path)
                except OSError as error:
                    what = f"{model.kind} {model.name} cannot be written to {path.parent}"
                    raise WorkerError(f"{what}: {error.strerror}; see IMG2IMG_MODEL_CACHE") from error

    def _make_room(self, model: PushedModel) -> None:
        """What was used least recently goes, until the whole of a model fits in."""
        kept = sorted(self._kept(), key=lambda each: each.used)
        others = [each for each in kept if each.folder.name != model.sha256]
        left = sum(each.size for each in others)
        for each in others:
            if left + model.size <= self._limit:
                return
            if _removed(each):
                left -= each.size
        if left + model.size > self._limit:
            raise WorkerError(
                f"no room for {model.kind} {model.name} of {model.size:,} bytes: {self._folder} may have "
                f"{self._limit:,} (IMG2IMG_MODEL_CACHE_SIZE), of which {left:,} are in use"
            )

    def _kept(self) -> Iterator[_Kept]:
        with suppress(FileNotFoundError):
            for folder in self._folder.iterdir():
                with suppress(OSError):  # it is just being removed
                    used = folder.stat().st_mtime
                    for path in folder.iterdir():
                        yield _Kept(folder, path, path.stat().st_size, used)


def _held(path: Path) -> CachedFile | None:
    """The file at `path`, which from now on is in use; None: there is none."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    fcntl.flock(file, fcntl.LOCK_SH)
    if not os.fstat(file.fileno()).st_nlink:  # it made room a moment ago
        file.close()
        return None
    os.utime(path.parent)  # not the file's own: it would count as changed
    return CachedFile(path, file)


def _removed(kept: _Kept) -> bool:
    """Whether a file that nobody uses, or fetches, has made room."""
    with suppress(OSError), kept.path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kept.path.unlink()
        with suppress(OSError):  # somebody begins to fetch it again
            kept.folder.rmdir()
        return True
    return False


@contextmanager
def _alone(path: Path, pause: Pause) -> Iterator[BinaryIO | None]:
    """The partial file at `path`, for one process at a time; None: it was another's, and is done with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        opened = path.open("a+b")
    except FileNotFoundError:  # somebody has just removed the folder
        yield None
        return
    with opened as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pause()
        try:
            is_here = path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            is_here = False
        yield file if is_here else None
