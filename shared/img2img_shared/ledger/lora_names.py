"""Which LoRAs a farm's workers have; announced less often than beats, as there may be hundreds."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgpack

from img2img_shared.ledger import keys
from img2img_shared.ledger.connect import FarmRedis, reading

#: seconds between two times that a worker says it, and for which it holds
EVERY, KEPT = 10.0, 30
#: workers that one call to Redis asks about
SHARE = 100


class LoraNames:
    """The LoRAs of one farm's workers. Every method raises `Unavailable` when Redis does not answer."""

    def __init__(self, redis: FarmRedis) -> None:
        self._prefix = redis.prefix
        self._call = redis.call

    def say(self, worker: str, names: Mapping[str, str]) -> None:
        """Announce a worker's LoRAs: its files, and the names that their trainers gave them."""
        self._call("SET", keys.loras_key(self._prefix, worker), msgpack.packb(dict(names)), "EX", KEPT)

    def of_each(self, workers: Collection[str]) -> list[dict[str, str] | None]:
        """Those that each of the workers has; None: it has not said."""
        found: list[dict[str, str] | None] = []
        for data in values_of(self._call, [keys.loras_key(self._prefix, worker) for worker in workers]):
            with reading(keys.loras_key(self._prefix, "…")):
                each = None if data is None else msgpack.unpackb(data)
                if isinstance(each, list):  # of names alone: an older worker's
                    each = {name: name for name in each}
                found.append(each)
        return found

    def of(self, workers: Collection[str]) -> dict[str, str] | None:
        """The LoRAs that any of the workers has, in order; None if none of them has announced any."""
        lists = [each for each in self.of_each(workers) if each is not None]
        found = {name: alias for each in lists for name, alias in each.items()}
        return dict(sorted(found.items())) if lists else None


def values_of(call: Callable[..., Any], names: Sequence[str]) -> list[bytes | None]:
    """What lies under keys; None: nothing."""
    shares = (names[start : start + SHARE] for start in range(0, len(names), SHARE))
    return [data for share in shares for data in call("MGET", *share)]
