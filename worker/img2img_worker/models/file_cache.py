"""Caches what was read from models' files, as long as these do not change."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Generic, Self, TypeVar

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
        self._held: OrderedDict[Path, tuple[FileVersion, T]] = OrderedDict()
        self._reading = threading.Lock()

    def get(self, version: FileVersion, read: Callable[[], T]) -> T:
        """What was read from this version of a file before, or what `read` gives now."""
        with self._reading:
            held = self._held.pop(version.path, None)
            if held is None or held[0] != version:
                held = version, read()
            self._held[version.path] = held
            while len(self._held) > 1 and self._bytes > self._most_bytes:
                self._held.popitem(last=False)
        return held[1]

    @property
    def _bytes(self) -> int:
        return sum(version.size for version, _ in self._held.values())


def read_once(read: Callable[[Path], T]) -> Callable[[Path], T]:
    """`read` with a cache: it is called again for a file only if that has changed, or if it has raised.

    The function that is returned raises `OSError` if there is no such file.
    """

    @lru_cache(maxsize=_REMEMBERED)
    def remember(version: FileVersion) -> T:
        return read(version.path)

    return lambda path: remember(FileVersion.of(path))
