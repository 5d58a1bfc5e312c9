"""The part of the ledger by which workers agree on which worker loads which model."""

import sys
from collections.abc import Collection
from typing import Any

import msgpack

from img2img_shared.ledger.connect import reading
from img2img_shared.ledger.part import LedgerPart
from img2img_shared.placement import ModelDemand, Placement, WaitingImages


class ModelLoads(LedgerPart):
    """The models that workers have loaded, and the facts for deciding on that."""

    def placement(self) -> Placement:
        """What waits for which model, and which workers have it; up to a second old."""
        data = self._redis.run("board")
        with reading(self._redis.key("board")):
            return Placement([_demand(*answer) for answer in msgpack.unpackb(data, raw=True)])

    def deaths(self, model: str) -> int:
        """How many workers have died of loading the model of late."""
        return int(self._redis.run("deaths", model))

    def move(self, worker: str, model: str | None, to: str, placement: Placement | None) -> bool:
        """Note that a worker gives up `model` (None: it has none) to load another.

        From now on it counts as having the other one, until half a lease after its last beat.

        Args:
            placement: the one on which the decision is based; None: move whatever others have decided.

        Returns:
            False: others have decided the same since `placement` was made. Look again.
        """
        had, have = 0, sys.maxsize
        if placement is not None:
            had, have = (_workers(placement, name) for name in (model, to))
        return bool(self._redis.run("move", worker, model or "", to, self._lease_ms // 2, had, have))

    def load_ended(self, worker: str, model: str) -> None:
        """Note that a worker's load has ended, with the model or without."""
        self._redis.call("ZREM", self._redis.key("model", "loading", model), worker)

    def measured(self, model: str, *, load: float | None = None, image: float | None = None) -> None:
        """Record how many seconds a load of the model took, or how many one of its images takes a worker."""
        for name, seconds in (("load_seconds", load), ("image_seconds", image)):
            if seconds is not None:
                self._redis.call("HSET", self._redis.key(name), model, f"{seconds:.3f}")

    def describe(self, model: str, takes: Collection[str]) -> None:
        """Record which parameters a model takes that most models do not, for when it is not loaded."""
        self._redis.call("HSET", self._redis.key("takes"), model, " ".join(takes))

    def known_takes(self) -> dict[str, frozenset[str]]:
        """For each model that was ever loaded, what `describe` last recorded."""
        found = self._redis.call("HGETALL", self._redis.key("takes"))
        pairs = dict(zip(found[::2], found[1::2], strict=True)) if isinstance(found, list) else found
        return {str(model, "utf-8"): frozenset(str(each, "utf-8").split()) for model, each in pairs.items()}


def _workers(placement: Placement, model: str | None) -> int:
    demand = placement.demands.get(model or "")
    return 0 if demand is None else demand.workers


def _demand(
    model: bytes,
    workers: int,
    starved: int,
    has_janitor: int,
    deaths: int,
    load_seconds: bytes,
    image_seconds: bytes,
    waiting: int,
    *shares: Any,
) -> ModelDemand:
    pairs = [(share, int(images)) for share, images in zip(shares[::2], shares[1::2], strict=True)]
    listed = sum(images for _, images in pairs)
    if waiting and not listed:  # all of it is from before an upgrade
        pairs, listed = [(b"0 -", waiting)], waiting
    more = max(1.0, waiting / listed) if listed else 1.0  # of very many tenants some are told
    return ModelDemand(
        model=str(model, "utf-8"),
        waiting=tuple(_waiting(share, round(more * images)) for share, images in pairs),
        workers=workers,
        starved=starved / 1000,
        load_seconds=float(load_seconds) if load_seconds else None,
        image_seconds=float(image_seconds) if image_seconds else None,
        has_janitor=bool(has_janitor),
        deaths=deaths,
    )


def _waiting(share: bytes, images: int) -> WaitingImages:
    priority, _, tenant = str(share, "utf-8").partition(" ")
    return WaitingImages(priority=int(priority), tenant=tenant, images=images)
