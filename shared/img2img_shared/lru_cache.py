"""A cache that is bounded by what its values take, not by how many there are."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """The most recently used values. Not thread-safe.

    Unlike `cachetools.LRUCache`, it can hold a value that is larger than the bound: what was loaded last is
    about to be used.

    Args:
        size_of: what a value takes, in any unit; asked once, when it is put in.
    """

    def __init__(self, size_of: Callable[[V], int]) -> None:
        self._size_of = size_of
        #: values with their sizes, least recently used first
        self._held: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        """How many values it holds."""
        return len(self._held)

    def get(self, key: K) -> V | None:
        """The value under `key`, which counts as used; None: it is not here."""
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def put(self, key: K, value: V) -> None:
        """Hold a value, which counts as used, instead of any other under `key`; see `trim`."""
        _, before = self._held.pop(key, (None, 0))
        size = self._size_of(value)
        self._held[key] = value, size
        self._size += size - before

    def trim(self, most: int, *, keep: int = 1) -> None:
        """Drop the least recently used values until the others take `most` together.

        Args:
            keep: how many of the last used stay whatever they take.
        """
        while self._size > most and len(self._held) > keep:
            _, (_, size) = self._held.popitem(last=False)
            self._size -= size
