"""A model of the ledger in plain Python, without time, wire or server, to compare the real one with."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from img2img_shared.job import ImageState, JobState

#: as in claim.lua
JOBS, LOOK = 128, 32


@dataclass
class PlainJob:
    id: str
    tenant: str
    model: str
    n: int
    priority: int
    once: str | None
    paused: bool = False
    cancelled: bool = False
    #: whether it was interrupted: running images end early, and count as done
    interrupted: bool = False
    #: whether somebody has deleted its hash
    gone: bool = False
    fresh: int = 0
    virtual_time: int = 0
    back: set[int] = field(default_factory=set)
    suspects: set[int] = field(default_factory=set)
    delayed: set[int] = field(default_factory=set)
    running: dict[int, str] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    failed: dict[int, str] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    deaths: dict[int, int] = field(default_factory=dict)
    #: how often it was put back because of trouble, and the worker that may not have it yet, if any
    troubles: dict[int, tuple[int, str | None]] = field(default_factory=dict)

    #: by index, or by worker for all images: the workers that have a missing file
    lacking: dict[int | str, set[str]] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        return not self.paused and not self.cancelled

    @property
    def ended(self) -> bool:
        return len(self.done) + len(self.failed) == self.n or (self.cancelled and not self.running)

    @property
    def state(self) -> JobState:
        if self.cancelled:
            return JobState.CANCELLED
        if len(self.done) + len(self.failed) == self.n:
            return JobState.FAILED if self.failed else JobState.DONE
        if self.paused:
            return JobState.PAUSED
        return JobState.RUNNING if self.done or self.failed or self.running else JobState.PENDING

    @property
    def ready(self) -> int:
        """The number of images that can be claimed, without suspects."""
        return self.n - self.fresh + len(self.back) if self.open else 0

    @property
    def left(self) -> int:
        """The number of images that have not ended."""
        return len(self.running) if self.cancelled else self.n - len(self.done) - len(self.failed)

    def image(self, index: int) -> ImageState:
        if index in self.done:
            return ImageState.DONE
        if index in self.running:
            return ImageState.RUNNING
        if index in self.failed:
            return ImageState.FAILED
        return ImageState.CANCELLED if self.cancelled else ImageState.PENDING

    def wait_again(self, index: int) -> None:
        (self.suspects if index in self.deaths else self.back).add(index)

    def is_for_others(self, index: int, worker: str, loaded: set[str]) -> bool:
        having = [self.lacking.get(key, set()) for key in (worker, index)]
        return any(worker not in others and others & loaded for others in having)

    def pick(self, worker: str, loaded: set[str]) -> int | None:
        """An image that this worker may claim: handed back ones first, those in trouble last."""
        for index in sorted(self.back, key=lambda index: (index in self.troubles, index))[:LOOK]:
            is_shunned = self.troubles.get(index, (0, None))[1] == worker
            if not is_shunned and not self.is_for_others(index, worker, loaded):
                self.back.remove(index)
                return index
        if self.fresh == self.n or self.is_for_others(self.fresh, worker, loaded):
            return None
        self.fresh += 1
        return self.fresh - 1


@dataclass(frozen=True)
class PlainClaim:
    job: PlainJob
    index: int
    attempt: int
    worker: str
    nonce: str
    alone: bool


Share = tuple[int, str]


class PlainLedger:
    """Each method does what the ledger's method of the same name does."""

    def __init__(self) -> None:
        self.jobs: dict[str, PlainJob] = {}
        #: by model: virtual times of tenants with claimable images, by priority
        self.tenants: dict[str, dict[Share, int]] = defaultdict(dict)
        self.shares: dict[str, dict[Share, int]] = defaultdict(dict)
        #: by model, and priority and tenant: virtual times of jobs
        self.listed: dict[tuple[str, Share], dict[str, int]] = defaultdict(dict)
        self.claims: dict[str, PlainClaim] = {}
        self.expired: set[str] = set()
        self.dead: dict[str, tuple[str, int]] = {}
        self.alive: set[str] = set()
        #: by model, workers that have it loaded
        self.loaded: dict[str, set[str]] = defaultdict(set)
        #: by model, the worker that is finishing its images before it switches
        self.reserved: dict[str, str] = {}
        #: by such a worker, the model to which it switches
        self.reserved_for: dict[str, str] = {}

    def submit(self, job: PlainJob) -> str:
        for other in self.jobs.values():
            if job.once is not None and (other.tenant, other.once) == (job.tenant, job.once):
                return other.id
        self.jobs[job.id] = job
        self.place(job)
        return job.id

    def claim(self, model: str, worker: str, nonce: str, idle: bool) -> PlainClaim | None:
        if nonce in self.claims:
            if not self.claims[nonce].job.gone:
                self.expired.discard(nonce)
                return self.claims[nonce]
            self.drop(nonce)
        self.pardon(nonce)
        mine = [claim for claim in self.claims.values() if claim.worker == worker]
        elsewhere = self.reserved_for.get(worker, model)
        if any(claim.alone for claim in mine) or (elsewhere != model and self.suspected(elsewhere)):
            return None
        top = min(self.tenants[model], key=self.order(model), default=None)
        suspected = self.suspected(model)
        loaded = self.loaded[model]
        if suspected and suspected.is_for_others(min(suspected.suspects), worker, loaded):
            suspected = None
        if suspected and (top is None or suspected.priority >= top[0]):
            if idle and not mine:
                index = min(suspected.suspects)
                suspected.suspects.remove(index)
                return self.take(suspected, index, worker, nonce, alone=True)
            if top and self.reserved.setdefault(model, worker) == worker:
                self.reserved_for[worker] = model
                return None
        for job in self.in_turn(model):
            if (picked := job.pick(worker, loaded)) is not None:
                share = (job.priority, job.tenant)
                self.listed[model, share][job.id] += 1
                self.tenants[model][share] += 1
                return self.take(job, picked, worker, nonce, alone=False)
        return None

    def suspected(self, model: str) -> PlainJob | None:
        return min(
            (job for job in self.jobs.values() if job.model == model and job.open and job.suspects),
            key=lambda job: (-job.priority, job.id),
            default=None,
        )

    def in_turn(self, model: str) -> Iterator[PlainJob]:
        """The first jobs, by priority, then the tenant and the job that have had least, then age."""
        tenants = sorted(self.tenants[model], key=self.order(model))
        listed = [self.listed[model, share].items() for share in tenants]
        arrivals = {job: number for number, job in enumerate(self.jobs)}
        ids = [
            job for jobs in listed for job, _ in sorted(jobs, key=lambda item: (item[1], arrivals[item[0]]))
        ]
        yield from (self.jobs[job] for job in ids[:JOBS])

    def order(self, model: str) -> Callable[[Share], tuple[int, int, str]]:
        return lambda share: (-share[0], self.tenants[model][share], share[1])

    def take(self, job: PlainJob, index: int, worker: str, nonce: str, *, alone: bool) -> PlainClaim:
        claim = PlainClaim(job, index, job.attempts.get(index, 0) + 1, worker, nonce, alone)
        job.running[index] = nonce
        job.attempts[index] = claim.attempt
        self.claims[nonce] = claim
        self.place(job)
        return claim

    def renew(self, nonces: list[str]) -> list[tuple[str, bool, bool]]:
        """(nonce, cancelled, interrupted) of the claims that must stop."""
        stop = []
        for nonce in nonces:
            claim = self.claims.get(nonce)
            if claim is None or claim.job.gone:
                self.drop(nonce)
                self.pardon(nonce)
                stop.append((nonce, False, False))
                continue
            self.expired.discard(nonce)
            if claim.job.cancelled:
                interrupted = claim.job.interrupted
                stop.append((nonce, not interrupted, interrupted))
        return stop

    def drop(self, nonce: str) -> PlainClaim | None:
        claim = self.claims.pop(nonce, None)
        if claim is None:
            return None
        self.expired.discard(nonce)
        if claim.job.gone:
            return None
        del claim.job.running[claim.index]
        return claim

    def finish(self, nonce: str) -> bool:
        claim = self.drop(nonce)
        if claim is None:
            return False
        claim.job.done.add(claim.index)
        claim.job.deaths.pop(claim.index, None)
        claim.job.troubles.pop(claim.index, None)
        claim.job.lacking.pop(claim.index, None)
        return True

    def fail(self, nonce: str, reason: str) -> bool:
        claim = self.drop(nonce)
        if claim is None:
            return False
        claim.job.failed[claim.index] = reason
        claim.job.troubles.pop(claim.index, None)
        claim.job.lacking.pop(claim.index, None)
        return True

    def release(self, nonce: str, *, delayed: bool, trouble: str = "") -> bool:
        claim = self.claims.get(nonce)
        if claim is not None and trouble and not claim.job.cancelled:
            tries = claim.job.troubles.get(claim.index, (0, None))[0] + 1
            if tries == 5:
                return self.fail(nonce, f"5 tries; the last: {trouble}")
            claim.job.troubles[claim.index] = (tries, claim.worker)
        claim = self.drop(nonce)
        if claim is None:
            return False
        self.hand_back(claim, delayed=delayed)
        return True

    def pass_on(self, nonce: str, others: set[str], *, whole_job: bool) -> bool:
        claim = self.drop(nonce)
        if claim is None:
            return False
        claim.job.lacking[claim.worker if whole_job else claim.index] = others
        self.hand_back(claim)
        return True

    def hand_back(self, claim: PlainClaim, *, delayed: bool = False) -> None:
        if claim.job.cancelled:
            return
        if delayed:
            claim.job.delayed.add(claim.index)
        else:
            claim.job.wait_again(claim.index)
            self.place(claim.job)

    def take_back(self, model: str) -> tuple[int, int, int]:
        handed_back = suspects = failed = 0
        for nonce in sorted(nonce for nonce in self.expired if self.claims[nonce].job.model == model):
            claim = self.drop(nonce)
            if claim is None:
                continue
            job = claim.job
            if claim.worker in self.alive:
                handed_back += 1
                self.hand_back(claim)
                continue
            self.dead[nonce] = (job.id, claim.index)
            job.deaths[claim.index] = job.deaths.get(claim.index, 0) + 1
            if job.deaths[claim.index] >= 3 and not job.cancelled:
                failed += 1
                job.troubles.pop(claim.index, None)
                job.lacking.pop(claim.index, None)
                job.failed[claim.index] = (
                    f"3 workers died while rendering it, the last of them {claim.worker}"
                )
            else:
                suspects += 1
                self.hand_back(claim)
        return handed_back, suspects, failed

    def pardon(self, nonce: str) -> None:
        job_id, index = self.dead.pop(nonce, ("", 0))
        job = self.jobs.get(job_id)
        if job is None or index not in job.deaths:
            return
        job.deaths[index] -= 1
        if job.deaths[index] <= 0:
            del job.deaths[index]
            if index in job.suspects:
                job.suspects.remove(index)
                job.back.add(index)
                self.place(job)

    def fall_due(self, model: str) -> None:
        """End the backoff of all images of `model`. As in the ledger, the next claim notices it."""
        due = [(job, index) for job in self.jobs.values() if job.model == model for index in job.delayed]
        for job, index in sorted(due, key=lambda image: f"{image[0].id} {image[1]}"):
            job.delayed.remove(index)
            if not job.cancelled:
                job.wait_again(index)
                self.place(job)

    def interrupt(self, job: PlainJob) -> int:
        if job.cancelled or job.state in (JobState.DONE, JobState.FAILED):
            return 0
        dropped = self.cancel(job) - len(job.running)
        job.interrupted = True
        return dropped

    def cancel(self, job: PlainJob) -> int:
        if job.interrupted:
            job.interrupted = False
            return len(job.running)
        if job.cancelled or job.state in (JobState.DONE, JobState.FAILED):
            return 0
        job.cancelled = True
        job.back.clear()
        job.suspects.clear()
        self.place(job)
        return job.n - len(job.done) - len(job.failed)

    def pause(self, job: PlainJob) -> bool:
        if job.paused or job.state in (JobState.DONE, JobState.FAILED):
            return False
        job.paused = True
        self.place(job)
        return True

    def resume(self, job: PlainJob) -> bool:
        was, job.paused = job.paused, False
        if was:
            self.place(job)
        return was

    def set_priority(self, job: PlainJob, priority: int) -> bool:
        if job.priority == priority:
            return False
        self.leave(job)
        job.virtual_time = 0
        job.priority = priority
        self.place(job)
        return True

    def retry(self, job: PlainJob) -> int:
        chances = len(job.failed)
        for index in job.failed:
            if index in job.deaths:
                job.deaths[index] = 0
            job.wait_again(index)
        job.failed.clear()
        if chances:
            self.place(job)
        return chances

    def forget(self) -> None:
        for job in [job for job in self.jobs.values() if job.ended]:
            del self.jobs[job.id]

    def delete(self, job: PlainJob) -> None:
        """Somebody deletes a job's hash by hand, and the ledger finds out."""
        self.leave(job)
        del self.jobs[job.id]
        job.gone = True

    def place(self, job: PlainJob) -> None:
        share = (job.priority, job.tenant)
        jobs, tenants = self.listed[job.model, share], self.tenants[job.model]
        if job.ready == 0:
            self.leave(job)
        elif job.id not in jobs:
            if not jobs:
                peers = [time for (priority, _), time in tenants.items() if priority == job.priority]
                tenants[share] = entry(peers, self.shares[job.model].pop(share, 0))
            jobs[job.id] = entry(jobs.values(), job.virtual_time)

    def leave(self, job: PlainJob) -> None:
        share = (job.priority, job.tenant)
        jobs, tenants, shares = self.listed[job.model, share], self.tenants[job.model], self.shares[job.model]
        if job.id not in jobs:
            return
        job.virtual_time = jobs.pop(job.id)
        if jobs:
            return
        shares[share] = tenants.pop(share)
        peers = [time for (priority, _), time in tenants.items() if priority == job.priority]
        for other in [other for other in shares if other[0] == job.priority]:
            if not peers or shares[other] <= min(peers):
                del shares[other]

    def beat(self, worker: str, model: str, trouble: str | None) -> None:
        self.alive.add(worker)
        if trouble is None:
            self.loaded[model].add(worker)
        else:
            self.loaded[model].discard(worker)

    def move(self, worker: str, model: str | None, to: str, seen: dict[str, int]) -> bool:
        if len(self.loaded[to]) > seen[to]:
            return False
        if model is not None:
            if len(self.loaded[model]) < seen[model]:
                return False
            self.loaded[model].discard(worker)
            if self.reserved.get(model) == worker:
                del self.reserved[model]
            self.reserved_for.pop(worker, None)
        self.loaded[to].add(worker)
        return True

    def waits(self, model: str) -> dict[Share, int]:
        found: dict[Share, int] = {}
        for job in self.jobs.values():
            count = job.ready + len(job.suspects) if job.open else 0
            if job.model == model and count:
                share = (job.priority, job.tenant)
                found[share] = found.get(share, 0) + count
        return found

    def waiting(self, model: str) -> int:
        jobs = [job for job in self.jobs.values() if job.model == model and job.open]
        return sum(job.ready + len(job.suspects) for job in jobs)

    def under_way(self, tenant: str) -> int:
        return sum(job.left for job in self.jobs.values() if job.tenant == tenant)


def entry(peers: Collection[int], own: int) -> int:
    """The virtual time at which one enters: its own, but not before all others, and not long after them."""
    return max(min(peers), min(own, max(peers) + 1)) if peers else own
