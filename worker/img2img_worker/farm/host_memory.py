"""Checkpoints that wait in the host's memory while others are on the device."""

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from img2img_worker.farm import memory
from img2img_worker.models.families.family import Family


@dataclass(frozen=True, kw_only=True)
class WaitingCheckpoint:
    """One of them."""

    #: see `img2img_shared.checkpoints.identity`; what its files have become meanwhile may be another
    identity: str
    #: bytes
    size: int
    #: brings it to the device
    build: Callable[[], Family]


class HostMemory:
    """Those that were used last, within a bound; the others are on the disk alone.

    Args:
        most: bytes. Half of what is free is left to others in any case.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        #: least recently used first
        self._waiting: OrderedDict[str, WaitingCheckpoint] = OrderedDict()

    @property
    def models(self) -> Collection[str]:
        """That are there."""
        return self._waiting.keys()

    def has_room(self, size: int) -> bool:
        """Whether so many bytes may be kept, if others go for them."""
        gone = sum(each.size for each in self._waiting.values())
        return size <= self._most and size <= (memory.available() + gone) / 2

    def keep(self, model: str, checkpoint: WaitingCheckpoint) -> None:
        """Have one wait; others go for it, or it is not kept where there is no room."""
        self._waiting.pop(model, None)
        if not self.has_room(checkpoint.size):
            return
        while self._waiting and self._size + checkpoint.size > self._most:
            self._waiting.popitem(last=False)
        self._waiting[model] = checkpoint

    def find(self, model: str, identity: str) -> WaitingCheckpoint | None:
        """The one of that name, if it is the one that is meant; it was used last then."""
        found = self._waiting.get(model)
        if found is None or found.identity != identity:
            self._waiting.pop(model, None)
            return None
        self._waiting.move_to_end(model)
        return found

    def clear(self) -> None:
        """None waits any more."""
        self._waiting.clear()

    @property
    def _size(self) -> int:
        return sum(each.size for each in self._waiting.values())
