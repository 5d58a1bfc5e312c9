"""Checkpoints beside a worker's own: loaded when an image wants them, kept for the next, within a bound."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from img2img_shared.errors import Refused, Unavailable
from img2img_worker.engine.loaded import Loaded
from img2img_worker.models.families.family import Family


@dataclass(eq=False)
class _Place:
    """Of one checkpoint."""

    users: int = 0
    loaded: Loaded | None = None
    loading: threading.Lock = field(default_factory=threading.Lock)


class OtherCheckpoints:
    """Thread-safe.

    Args:
        read: loads one by its name, which may take a minute; raises `Refused` where there is none.
        most: how many are there at a time. An image that needs another waits until one is not in use; the
            least recently used goes. One that needs more by itself has them with no other in use. 0: none is
            to be had.
        deterministic: see `Engine`.
    """

    def __init__(self, read: Callable[[str], Family], most: int, *, deterministic: bool) -> None:
        self._read = read
        self._deterministic = deterministic
        self._most = most
        self._changed = threading.Condition()
        #: least recently used first
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._closed = False

    def borrow(self, names: Collection[str]) -> dict[str, Loaded]:
        """Those checkpoints, which stay until they are given back by `give_back`.

        Raises:
            Refused: there is no such checkpoint, or none is to be had.
            Unavailable: the engine is closed.
        """
        if names and not self._most:
            fields = "refiner_checkpoint, hr_checkpoint_name"
            reason = "a worker here takes none beside its own (IMG2IMG_OTHER_CHECKPOINTS)"
            raise Refused(fields, ", ".join(names), reason)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(names))
            if self._closed:
                raise Unavailable("the engine is closed")
            for name in names:
                place = self._places.setdefault(name, _Place())
                place.users += 1
                self._places.move_to_end(name)
            self._trim()
        try:
            return {name: self._loaded(name) for name in names}
        except BaseException:
            self.give_back(names)
            raise

    def give_back(self, names: Collection[str]) -> None:
        """An image that has borrowed them is done."""
        with self._changed:
            for name in names:
                place = self._places[name]
                place.users -= 1
                if not place.users and place.loaded is None:  # it could not be loaded
                    del self._places[name]
            self._trim()
            self._changed.notify_all()

    def drop_idle(self) -> None:
        """Those that no image uses go: the device has no room for them."""
        with self._changed:
            for name in [name for name, place in self._places.items() if not place.users]:
                del self._places[name]

    def close(self) -> None:
        """Nobody is to wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_room(self, names: Collection[str]) -> bool:
        in_use = [name for name, place in self._places.items() if place.users or name in names]
        return len({*in_use, *names}) <= max(self._most, len(names))

    def _trim(self) -> None:
        """Those too many go, of those that are not in use."""
        idle = [name for name, place in self._places.items() if not place.users]
        for name in idle[: max(0, len(self._places) - self._most)]:
            del self._places[name]

    def _loaded(self, name: str) -> Loaded:
        place = self._places[name]
        with place.loading:
            if place.loaded is None:
                place.loaded = Loaded.of(self._read(name), deterministic=self._deterministic)
            return place.loaded
