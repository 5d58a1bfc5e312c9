"""Which LoRAs a farm's workers have: said now and then, beside the beats, as there may be hundreds."""

from collections.abc import Collection, Mapping

import msgpack

from img2img_shared.ledger import keys
from img2img_shared.ledger.connect import FarmRedis, reading

#: seconds between two times that a worker says it, and for which it holds
EVERY, KEPT = 10.0, 30
#: workers that one call to Redis asks about
SHARE = 100


class LoraNames:
    """Those of one farm. Every method raises `Unavailable` when Redis is away."""

    def __init__(self, redis: FarmRedis) -> None:
        self._prefix = redis.prefix
        self._call = redis.call

    def say(self, worker: str, names: Mapping[str, str]) -> None:
        """What prompts may name for a worker now: its files, and what their trainers called them."""
        self._call("SET", keys.loras_key(self._prefix, worker), msgpack.packb(dict(names)), "EX", KEPT)

    def of(self, workers: Collection[str]) -> dict[str, str] | None:
        """Those that any of the workers has, in order; None: none of them has said."""
        if not workers:
            return None
        names = [keys.loras_key(self._prefix, worker) for worker in workers]
        shares = (names[start : start + SHARE] for start in range(0, len(names), SHARE))
        said = (data for share in shares for data in self._call("MGET", *share))
        found: dict[str, str] = {}
        with reading(keys.loras_key(self._prefix, "…")):
            lists = [msgpack.unpackb(data) for data in said if data is not None]
            for each in lists:  # a list of names alone is an older worker's
                found |= each if isinstance(each, dict) else {name: name for name in each}
        return dict(sorted(found.items())) if lists else None
