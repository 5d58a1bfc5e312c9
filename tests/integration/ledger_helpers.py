"""Helpers of the ledger's tests on a real Redis."""

from collections.abc import Callable
from typing import Any

from img2img_shared.job import Job
from img2img_shared.ledger import Ledger
from img2img_shared.params import Params
from img2img_shared.records import Claim, ExpiredLeases

MODEL = "sd {v1}/5"
FARM = "{img2img}"
Take = Callable[..., Claim | None]


def a_job(name: str = "job-0000", n: int = 3, **fields: Any) -> Job:
    return Job(**{"id": name, "model": MODEL, "params": Params(seed=1, subseed=1), "n_inputs": n, **fields})


def taken(take: Take, worker: str = "w", *, idle: bool = False) -> Claim:
    claim = take(worker, idle=idle)
    assert claim is not None
    return claim


def tick(ledger: Ledger, raw: Any) -> None:
    assert ledger.take_back(MODEL, "janitor") is not None
    raw.hset(f"{FARM}:model:tick:{MODEL}", "grace", 0)


def run_out(raw: Any, claim: Claim) -> None:
    raw.zadd(f"{FARM}:model:leases:{MODEL}", {claim.nonce: 1})


def die(ledger: Ledger, raw: Any, claim: Claim) -> ExpiredLeases | None:
    """Let more than a lease pass without a sign of life from the worker of `claim`."""
    run_out(raw, claim)
    return ledger.take_back(MODEL, "janitor")


def due(raw: Any) -> None:
    """Let all backoffs end."""
    for member in raw.zrange(f"{FARM}:model:delayed:{MODEL}", 0, -1):
        raw.zadd(f"{FARM}:model:delayed:{MODEL}", {member: 0})
