"""Which textual inversions a farm's workers have; announced less often than beats."""

from collections.abc import Collection, Mapping

import msgpack
from pydantic import BaseModel, TypeAdapter

from img2img_shared.ledger import keys
from img2img_shared.ledger.connect import FarmRedis, reading
from img2img_shared.ledger.lora_names import KEPT


class InversionInfo(BaseModel):
    """A textual inversion that a worker has."""

    #: training steps; None: its file does not say
    step: int | None = None
    #: dimensions of a token, of all text encoders together
    shape: int = 0
    #: tokens that it takes the place of
    vectors: int = 0
    #: why prompts cannot name it; None: they can
    reason: str | None = None
    #: it lies in the store: jobs that name it say which file they mean, and any worker fetches that
    pushed: bool = False


_INFOS = TypeAdapter(dict[str, InversionInfo])


class InversionNames:
    """The textual inversions of one farm's workers. Methods raise `Unavailable`."""

    def __init__(self, redis: FarmRedis) -> None:
        self._redis = redis

    def say(self, worker: str, model: str, infos: Mapping[str, InversionInfo]) -> None:
        """Announce a worker's inversions, by name; it has that model loaded."""
        usable = [name for name, info in infos.items() if info.reason is None and not info.pushed]
        data = msgpack.packb(_INFOS.dump_python(dict(infos)))
        self._redis.run("inversions", worker, data, KEPT, model, *usable)

    def usable(self, model: str) -> set[str]:
        """Names of unpushed files that a worker with the model loaded can use, or could a moment ago."""
        found = self._redis.call("ZRANGE", self._redis.key("model", "inversions", model), 0, -1)
        return {str(name, "utf-8") for name in found}

    def of(self, workers: Collection[str]) -> dict[str, InversionInfo]:
        """The inversions that any of the workers has; one that some of them can use counts as usable."""
        found: dict[str, InversionInfo] = {}
        for worker in workers:
            key = keys.inversions_key(self._redis.prefix, worker)
            data = self._redis.call("GET", key)
            with reading(key):
                said = {} if data is None else _INFOS.validate_python(msgpack.unpackb(data))
            found |= {name: info for name, info in said.items() if info.reason is None or name not in found}
        return dict(sorted(found.items(), key=lambda each: each[0].lower()))
