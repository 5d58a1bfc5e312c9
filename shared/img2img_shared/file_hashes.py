"""SHA-256 of large files, each read once, and remembered from one process to the next."""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

#: bytes that are read and hashed at a time: after each the thread may wait 5 ms for its turn, while another
#: runs Python
PIECE = 1 << 23


def rest_sha256(file: FileIO) -> str:
    """SHA-256 of the rest of an unbuffered file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    return hashlib.file_digest(file, "sha256", _bufsize=PIECE).hexdigest()


class FileHashes:
    """Hashes of files. Thread-safe: a hash that is being computed is waited for.

    A file counts as unchanged while its size, its times and its inode are the same.

    Args:
        folder: where they are remembered; None: in this process only.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._known: dict[Path, tuple[str, str]] = {}
        self._locks: dict[Path, threading.Lock] = {}
        self._lock = threading.Lock()

    def of(self, path: Path) -> str:
        """The file's SHA-256, in hexadecimal.

        Raises:
            OSError: it cannot be read.
        """
        path = path.absolute()
        with self._alone(path):
            state = _state(path.stat())
            known = self._known.get(path) or self._recall(path)
            if known is None or known[0] != state:
                with path.open("rb", buffering=0) as file:
                    state = _state(os.fstat(file.fileno()))
                    known = state, rest_sha256(file)
                self._remember(path, known)
            self._known[path] = known
        return known[1]

    def tell(self, path: Path, digest: str) -> None:
        """Remember a file's hash, which has just been verified."""
        path = path.absolute()
        with self._alone(path):
            known = _state(path.stat()), digest
            if self._known.get(path) != known:
                self._known[path] = known
                self._remember(path, known)

    @contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        with self._lock:
            lock = self._locks.setdefault(path, threading.Lock())
        with lock:
            yield

    def _recall(self, path: Path) -> tuple[str, str] | None:
        if self._folder is None:
            return None
        with suppress(OSError, ValueError):
            file = self._folder / _name(path)
            state, digest, name = file.read_text(encoding="utf-8").split("\n", 2)
            if name == str(path):
                return state, digest
        return None

    def _remember(self, path: Path, known: tuple[str, str]) -> None:
        if self._folder is None:
            return
        file = self._folder / _name(path)
        begun = file.with_suffix(f".{os.getpid()}")
        with suppress(OSError, UnicodeError):  # then it is read again
            self._folder.mkdir(parents=True, exist_ok=True)
            begun.write_text("\n".join((*known, str(path))), encoding="utf-8")
            begun.replace(file)


def _name(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


def _state(stat: os.stat_result) -> str:
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
