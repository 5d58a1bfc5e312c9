"""A cache of models that were fetched from the store, on this machine's disk."""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from img2img_shared.errors import WorkerError
from img2img_shared.pushed_models.download import PartsGiver, fetch_into
from img2img_shared.pushed_models.pushed_model import PushedModel

#: what the file is called that is not whole yet; who has it locked is fetching it
_PARTIAL = ".partial"

#: what the system says of a disk that is full, or of one's share of it
_FULL = (errno.ENOSPC, errno.EDQUOT)

#: waits a moment, and raises if what is asked for is not wanted any more
Pause = Callable[[], None]


class NoRoom(WorkerError):
    """There is no room for a model now, but there may be soon, when others are no longer in use."""


class CachedModel:
    """A model in the cache, which is not removed while any process on this machine holds such an object."""

    def __init__(self, path: Path, lock: "_FolderLock") -> None:
        #: its file's, or its folder's
        self.path = path
        self._lock = lock

    def close(self) -> None:
        """Allow it to be removed."""
        self._lock.release()

    def __del__(self) -> None:
        self.close()


class ModelCache:
    """A folder that the processes of a machine may share: each model is fetched once, by one of them.

    ``<contents hash>/`` has a model's files, each in its place, whose bytes were held against their hashes;
    ``<contents hash>/.partial`` is what was fetched so far of the next one. A folder's time is when its model
    was used last. Who uses a model or fetches it shares the lock of its folder; who removes it has it alone.

    Args:
        limit: most bytes, if the disk has so many; models in use are never removed.
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
        """Contents hashes of the models that are here."""
        return [folder.name for folder in self._folders() if not (folder / _PARTIAL).exists()]

    def fetch(
        self,
        model: PushedModel,
        giver: PartsGiver,
        pause: Pause,
        progress: Callable[[int], None] = lambda _: None,
    ) -> CachedModel:
        """A model's file or folder; if another process is fetching it, that one is waited for.

        Args:
            pause: called while waiting.
            progress: called after each piece; what it raises ends this fetch, and the next one continues.

        Raises:
            Damaged: the store's bytes are not those that were pushed.
            NoRoom: there is no room for it now.
            WorkerError: there can never be room for it, or it cannot be written.
            StoreError: the store failed.
        """
        folder = self._folder / model.contents_hash
        try:
            lock = _FolderLock(folder)
            try:
                for wanted in model.contents:
                    path = folder / wanted.path
                    while not path.exists():
                        with _alone(folder / _PARTIAL, pause) as file:
                            if file is None or path.exists():
                                continue
                            self._make_room(model)
                            fetch_into(file, model, wanted, giver, progress)
                            path.parent.mkdir(parents=True, exist_ok=True)
                            (folder / _PARTIAL).replace(path)
                os.utime(folder)  # not the files' own: they would count as changed
            except BaseException:
                lock.release()
                raise
        except OSError as error:
            what = f"{model.kind} {model.name} cannot be written to {folder}"
            told = f"{what}: {error.strerror}; see IMG2IMG_MODEL_CACHE"
            raise (NoRoom if error.errno in _FULL else WorkerError)(told) from error
        return CachedModel(folder / model.file_name, lock)

    def _make_room(self, model: PushedModel) -> None:
        """Remove the least recently used models, until there is room for the whole of this one."""
        others = [folder for folder in self._folders() if folder.name != model.contents_hash]
        sizes = {folder: _size(folder) for folder in sorted(others, key=_used)}
        left = sum(sizes.values())
        begun = _size(self._folder / model.contents_hash)
        limit = min(self._limit, left + begun + shutil.disk_usage(self._folder).free)
        for folder, size in sizes.items():
            if left + model.total <= limit:
                return
            if _removed(folder):
                left -= size
        if left + model.total > limit:
            whose = "IMG2IMG_MODEL_CACHE_SIZE" if limit == self._limit else "its disk has no more"
            kind = WorkerError if model.total > self._limit else NoRoom
            raise kind(
                f"no room for {model.kind} {model.name} of {model.total:,} bytes: {self._folder} may have "
                f"{limit:,} ({whose}), of which {left:,} are in use"
            )

    def _folders(self) -> list[Path]:
        """The folders that are not empty."""
        try:
            return [each for each in self._folder.iterdir() if each.is_dir() and any(each.iterdir())]
        except FileNotFoundError:  # there is none yet, or one is just being removed
            return []


class _FolderLock:
    """The lock of a folder, shared by all who need the folder to stay; creates the folder if necessary."""

    def __init__(self, folder: Path) -> None:
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self._file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:  # somebody has just removed it
                continue
            fcntl.flock(self._file, fcntl.LOCK_SH)
            if _is_at(folder, self._file):
                return
            os.close(self._file)  # it made room a moment ago

    def release(self) -> None:
        """Release the lock; may be called repeatedly."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def _is_at(path: Path, file: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(file).st_ino
    except FileNotFoundError:
        return False


def _used(folder: Path) -> float:
    with suppress(FileNotFoundError):
        return folder.stat().st_mtime
    return 0.0


def _size(folder: Path) -> int:
    """The size of its contents in bytes."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                size += Path(parent, name).stat().st_size
    return size


def _removed(folder: Path) -> bool:
    """Remove a model unless it is being used or fetched; returns whether it was removed."""
    with suppress(OSError):
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
            return True
        finally:
            os.close(file)
    return False


@contextmanager
def _alone(path: Path, pause: Pause) -> Iterator[BinaryIO | None]:
    """The partial file at `path`, for one process at a time; None: another process had it, and is done."""
    with path.open("a+b") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pause()
        yield file if _is_at(path, file.fileno()) else None
