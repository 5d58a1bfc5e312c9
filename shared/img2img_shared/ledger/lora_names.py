"""Which LoRAs a farm's workers have: said now and then, beside the beats, as there may be hundreds."""

from collections.abc import Collection

import msgpack

from img2img_shared.ledger import keys
from img2img_shared.ledger.connect import FarmRedis

#: seconds between two times that a worker says it, and for which it holds
EVERY, KEPT = 10.0, 30


class LoraNames:
    """Those of one farm. Every method raises `Unavailable` when Redis is away."""

    def __init__(self, redis: FarmRedis) -> None:
        self._prefix = redis.prefix
        self._call = redis.call

    def say(self, worker: str, names: Collection[str]) -> None:
        """These are what prompts may name for a worker now."""
        self._call("SET", keys.loras_key(self._prefix, worker), msgpack.packb(list(names)), "EX", KEPT)

    def of(self, workers: Collection[str]) -> list[str]:
        """Those that any of the workers has, in order."""
        if not workers:
            return []
        said = self._call("MGET", *(keys.loras_key(self._prefix, worker) for worker in workers))
        return sorted({name for data in said if data is not None for name in msgpack.unpackb(data)})
