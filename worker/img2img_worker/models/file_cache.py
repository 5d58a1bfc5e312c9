"""Caches what was read from models' files, as long as these do not change."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Generic, Self, TypeVar

from img2img_shared.lru_cache import LruCache

T = TypeVar("T")

#: most files whose results one function caches
_REMEMBERED = 4096


@dataclass(frozen=True, kw_only=True)
class FileVersion:
    """A file at one moment: equal to another one as long as nobody has written to the file."""

    path: Path
    #: of its last modification, in nanoseconds since 1970
    time: int
    #: bytes
    size: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """The file as it is now.

        Raises:
            OSError: it is not there, or may not be read.
        """
        stat = path.stat()
        return cls(path=path, time=stat.st_mtime_ns, size=stat.st_size)

    @property
    def key(self) -> tuple[str, int, int]:
        """The same as a tuple."""
        return str(self.path), self.time, self.size


class FileCache(Generic[T]):
    """Caches what was last read from files. Thread-safe; one file is read at a time.

    Args:
        most_bytes: of the files together; the least recently used go first, but the last one always stays.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._held: LruCache[Path, tuple[FileVersion, T]] = LruCache(lambda held: held[0].size)
        self._reading = threading.Lock()

    def get(self, version: FileVersion, read: Callable[[], T]) -> T:
        """What was read from this version of a file before, or what `read` gives now."""
        with self._reading:
            held = self._held.get(version.path)
            if held is None or held[0] != version:
                held = version, read()
                self._held.put(version.path, held)
                self._held.trim(self._most_bytes)
        return held[1]


def read_once(read: Callable[[Path], T]) -> Callable[[Path], T]:
    """`read` with a cache: it is called again for a file only if that has changed, or if it has raised.

    The function that is returned raises `OSError` if there is no such file.
    """

    @lru_cache(maxsize=_REMEMBERED)
    def remember(version: FileVersion) -> T:
        return read(version.path)

    return lambda path: remember(FileVersion.of(path))
