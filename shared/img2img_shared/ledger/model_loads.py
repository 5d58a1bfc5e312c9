"""The part of the ledger by which workers agree on who has which model loaded."""

import sys
from collections.abc import Collection
from typing import Any

import msgpack

from img2img_shared.ledger.connect import reading
from img2img_shared.ledger.part import LedgerPart
from img2img_shared.placement import ModelDemand, Placement, WaitingImages


class ModelLoads(LedgerPart):
    """Which models workers have loaded, and what decides on that."""

    def placement(self) -> Placement:
        """What waits for which model, and who has it; up to a second old."""
        data = self._redis.run("board")
        with reading(self._redis.key("board")):
            return Placement([_demand(*answer) for answer in msgpack.unpackb(data, raw=True)])

    def move(self, worker: str, model: str | None, to: str, placement: Placement | None) -> bool:
        """A worker gives up `model` (None: none) to load another.

        It counts as one that has that from now on, until half a lease after its last beat.

        Args:
            placement: by which that was decided; None: whatever others have decided.

        Returns:
            False: others have decided alike since `placement` was made. Look again.
        """
        had, have = 0, sys.maxsize
        if placement is not None:
            had, have = (_workers(placement, name) for name in (model, to))
        return bool(self._redis.run("move", worker, model or "", to, self._lease_ms // 2, had, have))

    def load_ended(self, worker: str, model: str) -> None:
        """A worker has come back from a load to which it moved, with the model or without."""
        self._redis.call("ZREM", self._redis.key("model", "loading", model), worker)

    def measured(self, model: str, *, load: float | None = None, image: float | None = None) -> None:
        """Says how many seconds a load of the model took, or how many of a worker one of its images takes."""
        for name, seconds in (("load_seconds", load), ("image_seconds", image)):
            if seconds is not None:
                self._redis.call("HSET", self._redis.key(name), model, f"{seconds:.3f}")

    def describe(self, model: str, takes: Collection[str]) -> None:
        """Says which parameters a model takes that most do not, for when it is not loaded."""
        self._redis.call("HSET", self._redis.key("takes"), model, " ".join(takes))

    def known_takes(self) -> dict[str, frozenset[str]]:
        """Of each model that workers have loaded ever: what `describe` said last."""
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
