"""The cost of a farm's ledger for Redis, call by call, on a small farm and on a large one.

    python -m bench.ledger [--workers 1000] [--claims 48] [--jobs 10000] [--images 1000]

Fake workers hold claims, renew them, beat and listen as real ones do; nothing is rendered. CPU seconds of the
Redis process, not wall time, so that other load on the machine does not count (but for the percentiles).
"""

import argparse
import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from img2img_shared.job import Job
from img2img_shared.ledger import Ledger, connect
from img2img_shared.ledger.previews import Previews
from img2img_shared.params import Params
from img2img_shared.records import Claim, WorkerInfo
from tests.servers import RedisServer, raw_client

MODEL = "sd15"
LEASE = 30.0
TENANTS = 50
#: calls of each kind that are measured
SAMPLE = 400


@dataclass(frozen=True)
class Cost:
    """The cost of one kind of call."""

    #: Redis' CPU time per call
    microseconds: float
    #: time within which 99 of 100 calls end, by Redis' own clock; rounded up to a power of two
    p99: int


class FakeFarm:
    """A Redis with jobs that wait and workers that hold claims."""

    def __init__(self, *, workers: int, claims: int, jobs: int, images: int) -> None:
        self._server = RedisServer()
        self._raw: Any = raw_client(self._server.url)
        redis = connect(self._server.url)
        self.ledger = Ledger(redis, lease=LEASE)
        self.previews = Previews(redis)
        self.workers = [
            WorkerInfo(id=f"worker-{n}", model=MODEL, device="none", slots=claims) for n in range(workers)
        ]
        self._numbers = itertools.count()
        for _ in range(jobs):
            self.submit(images)
        for info in self.workers:
            self.ledger.beat(info)
        self.held = {info.id: [self.claim(info.id) for _ in range(claims)] for info in self.workers}
        self.turns = itertools.cycle(self.workers)

    def submit(self, images: int = 1) -> str:
        number = next(self._numbers)
        return self.ledger.submit(
            Job(
                id=f"job-{number:08}",
                model=MODEL,
                tenant=f"tenant-{number % TENANTS}",
                params=Params(seed=1, subseed=1),
                n_inputs=images,
            )
        )

    def claim(self, worker: str) -> Claim:
        claim = self.ledger.claim(MODEL, worker, uuid.uuid4().hex, idle=False)
        if claim is None:
            raise RuntimeError("no image is left: give more --jobs or --images")
        return claim

    def measure(self, call: Callable[[], object], sample: int = SAMPLE) -> Cost:
        """Its average cost, once its script is loaded."""
        call()
        self._raw.config_resetstat()
        before = self._cpu()
        for _ in range(sample):
            call()
        spent = self._cpu() - before
        histogram = self._raw.execute_command("LATENCY", "HISTOGRAM")
        return Cost(microseconds=1e6 * spent / sample, p99=_p99(histogram))

    def close(self) -> None:
        self._raw.close()
        self._server.remove()

    def _cpu(self) -> float:
        used = self._raw.info("cpu")
        return float(used["used_cpu_sys"] + used["used_cpu_user"])


def _p99(histogram: list[Any]) -> int:
    """The histogram bucket within which 99 of 100 calls of the slowest kind of command were."""
    worst = 0
    for name, facts in zip(histogram[::2], histogram[1::2], strict=True):
        if name in (b"info", b"config|resetstat", b"config", b"latency|histogram"):
            continue
        calls, buckets = facts[1], facts[3]
        for microseconds, below in zip(buckets[::2], buckets[1::2], strict=True):
            if below >= 0.99 * calls:
                worst = max(worst, int(microseconds))
                break
    return worst


def calls(farm: FakeFarm) -> dict[str, tuple[Callable[[], object], float]]:
    """Each kind of call, and its number per second and worker; 0: it depends on users or images."""
    ledger, turns = farm.ledger, farm.turns

    def hold() -> list[Claim]:
        return farm.held[next(turns).id]

    ended: list[Claim] = []

    def claim() -> None:
        ended.append(farm.claim("worker-0"))

    tenant = "tenant-0"
    job = ledger.jobs(tenant, 1)[0].id
    return {
        "renew all claims": (lambda: ledger.renew(hold()), 4 / LEASE),
        "beat": (lambda: ledger.beat(next(turns)), 4 / LEASE),
        "hear of cancels": (lambda: ledger.cancels("$"), 1),
        "ask who watches": (lambda: farm.previews.watched({each.job_id for each in hold()}), 1),
        "ask whether to be the janitor": (lambda: ledger.take_back(MODEL, next(turns).id), 1 / 3),
        "claim": (claim, 0),
        "finish": (lambda: ledger.finish(ended.pop()), 0),
        "submit": (farm.submit, 0),
        "tickets that are missing": (lambda: ledger.missing_tickets(MODEL, 1000), 0),
        "status": (lambda: ledger.status(job, tenant), 0),
        "100 jobs": (lambda: ledger.jobs(tenant, 100), 0),
        "1,000 images": (lambda: ledger.images(job, tenant), 0),
        "models that are served": (ledger.served, 0),
    }


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--workers", type=int, default=1000)
    options.add_argument("--claims", type=int, default=48)
    options.add_argument("--jobs", type=int, default=10_000)
    options.add_argument("--images", type=int, default=1000)
    given = options.parse_args()
    console = Console()
    costs: list[dict[str, Cost]] = []
    for scale in (100, 1):
        workers, jobs = max(1, given.workers // scale), max(100, given.jobs // scale)
        console.print(
            f"{workers} workers of {given.claims} claims, {jobs} jobs of {given.images} images wait",
            style="bold",
        )
        farm = FakeFarm(workers=workers, claims=given.claims, jobs=jobs, images=given.images)
        try:
            rates = {name: rate for name, (_, rate) in calls(farm).items()}
            costs.append({name: farm.measure(call) for name, (call, _) in calls(farm).items()})
        finally:
            farm.close()
    small, large = costs
    table = Table("call", "µs, small farm", "µs, large farm", "p99 below", "of a core, in all")
    upkeep = 0.0
    for name, cost in large.items():
        share = cost.microseconds * rates[name] * given.workers / 1e6
        upkeep += share
        table.add_row(
            name,
            f"{small[name].microseconds:.0f}",
            f"{cost.microseconds:.0f}",
            f"{cost.p99} µs",
            f"{share:.1%}" if share else "",
        )
    console.print(table)
    image = sum(large[name].microseconds for name in ("claim", "finish"))
    console.print(f"Workers that hold claims: {upkeep:.0%} of a core. An image: {image:.0f} µs of it.")


if __name__ == "__main__":
    main()
