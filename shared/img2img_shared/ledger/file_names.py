"""Which files besides checkpoints a farm's workers have, by kind; announced less often than beats."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import msgpack

from img2img_shared.ledger import keys
from img2img_shared.ledger.connect import FarmRedis, reading
from img2img_shared.ledger.lora_names import KEPT, values_of

FileKind = Literal["checkpoint", "control", "face_restorer", "hypernetwork", "upscaler", "vae"]


class FileNames:
    """The files of one farm's workers. Every method raises `Unavailable` when Redis does not answer."""

    def __init__(self, redis: FarmRedis) -> None:
        self._prefix = redis.prefix
        self._call = redis.call

    def say(self, worker: str, names: Mapping[FileKind, Sequence[str]]) -> None:
        """Announce the files that jobs may name for a worker."""
        self._call("SET", keys.files_key(self._prefix, worker), msgpack.packb(dict(names)), "EX", KEPT)

    def of_each(self, workers: Collection[str], kind: FileKind) -> list[list[str] | None]:
        """Those of a kind that each of the workers has; None: it has not said."""
        found = []
        for data in values_of(self._call, [keys.files_key(self._prefix, worker) for worker in workers]):
            with reading(keys.files_key(self._prefix, "…")):
                found.append(None if data is None else msgpack.unpackb(data).get(kind))
        return found

    def of(self, workers: Collection[str], kind: FileKind) -> list[str] | None:
        """The files of a kind that any of the workers has; None if none of them has announced any."""
        lists = [names for names in self.of_each(workers, kind) if names is not None]
        return list(dict.fromkeys(name for names in lists for name in names)) if lists else None
