"""Checkpoints kept in the host's memory while others are on the device."""

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from img2img_worker.farm import memory
from img2img_worker.models.families.family import Family


@dataclass(frozen=True, kw_only=True)
class WaitingCheckpoint:
    """A checkpoint in the host's memory."""

    #: see `img2img_shared.checkpoints.identity`; what its files have become meanwhile may be another
    identity: str
    #: bytes
    size: int
    #: brings it to the device
    build: Callable[[], Family]


class HostMemory:
    """The most recently used checkpoints, within a limit; all others are on the disk only.

    Args:
        most: bytes. Half of the free memory is left to other programs in any case.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        #: least recently used first
        self._waiting: OrderedDict[str, WaitingCheckpoint] = OrderedDict()

    @property
    def models(self) -> Collection[str]:
        """The models whose checkpoints are here."""
        return self._waiting.keys()

    def has_room(self, size: int) -> bool:
        """Whether so many bytes can be kept, if others are dropped for them."""
        gone = sum(each.size for each in self._waiting.values())
        return size <= self._most and size <= (memory.available() + gone) / 2

    def keep(self, model: str, checkpoint: WaitingCheckpoint) -> None:
        """Keep a checkpoint, dropping others for it; if there is no room for it, it is not kept."""
        self._waiting.pop(model, None)
        if not self.has_room(checkpoint.size):
            return
        while self._waiting and self._size + checkpoint.size > self._most:
            self._waiting.popitem(last=False)
        self._waiting[model] = checkpoint

    def find(self, model: str, identity: str) -> WaitingCheckpoint | None:
        """The checkpoint of that name and identity, or None; it counts as used."""
        found = self._waiting.get(model)
        if found is None or found.identity != identity:
            self._waiting.pop(model, None)
            return None
        self._waiting.move_to_end(model)
        return found

    def clear(self) -> None:
        """Drop all."""
        self._waiting.clear()

    @property
    def _size(self) -> int:
        return sum(each.size for each in self._waiting.values())
