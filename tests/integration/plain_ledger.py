"""The ledger in plain Python, without time, wire or server: what the real one is compared with."""

from dataclasses import dataclass, field

from img2img_shared.job import ImageState, JobState


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
    #: those that run end early, and are done
    interrupted: bool = False
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
            return JobState.DONE
        if self.paused:
            return JobState.PAUSED
        return JobState.RUNNING if self.done or self.failed or self.running else JobState.PENDING

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


@dataclass(frozen=True)
class PlainClaim:
    job: PlainJob
    index: int
    attempt: int
    worker: str
    nonce: str
    alone: bool


class PlainLedger:
    """Each method does what the ledger's of that name does."""

    def __init__(self) -> None:
        self.jobs: dict[str, PlainJob] = {}
        self.schedule: dict[str, int] = {}
        self.floor: dict[tuple[str, int], int] = {}
        self.claims: dict[str, PlainClaim] = {}
        self.expired: set[str] = set()
        self.dead: dict[str, tuple[str, int]] = {}
        self.alive: set[str] = set()
        self.reserved: dict[str, str] = {}

    def submit(self, job: PlainJob) -> str:
        for other in self.jobs.values():
            if job.once is not None and (other.tenant, other.once) == (job.tenant, job.once):
                return other.id
        self.jobs[job.id] = job
        self.place(job)
        return job.id

    def claim(self, model: str, worker: str, nonce: str, idle: bool) -> PlainClaim | None:
        if nonce in self.claims:
            self.expired.discard(nonce)
            return self.claims[nonce]
        self.pardon(nonce)
        mine = [
            claim for claim in self.claims.values() if claim.worker == worker and claim.job.model == model
        ]
        if any(claim.alone for claim in mine):
            return None
        jobs = [job for job in self.jobs.values() if job.model == model and job.open]
        first = min(
            (job for job in jobs if job.id in self.schedule),
            key=lambda job: (-job.priority, self.schedule[job.id], job.id),
            default=None,
        )
        suspected = min(
            (job for job in jobs if job.suspects), key=lambda job: (-job.priority, job.id), default=None
        )
        if suspected and (first is None or suspected.priority >= first.priority):
            if idle and not mine:
                index = min(suspected.suspects)
                suspected.suspects.remove(index)
                return self.take(suspected, index, worker, nonce, alone=True)
            if first and self.reserved.setdefault(model, worker) == worker:
                return None
        if first is None:
            return None
        if first.back:
            index = min(first.back)
            first.back.remove(index)
        else:
            index = first.fresh
            first.fresh += 1
        self.floor[model, first.priority] = self.schedule[first.id]
        self.schedule[first.id] += 1
        self.place(first)
        return self.take(first, index, worker, nonce, alone=False)

    def take(self, job: PlainJob, index: int, worker: str, nonce: str, *, alone: bool) -> PlainClaim:
        claim = PlainClaim(job, index, job.attempts.get(index, 0) + 1, worker, nonce, alone)
        job.running[index] = nonce
        job.attempts[index] = claim.attempt
        self.claims[nonce] = claim
        return claim

    def renew(self, nonces: list[str]) -> list[tuple[str, bool, bool]]:
        """(nonce, cancelled, interrupted) of those that must stop."""
        stop = []
        for nonce in nonces:
            claim = self.claims.get(nonce)
            if claim is None:
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
        if claim is not None:
            self.expired.discard(nonce)
            del claim.job.running[claim.index]
        return claim

    def finish(self, nonce: str) -> bool:
        claim = self.drop(nonce)
        if claim is None:
            return False
        claim.job.done.add(claim.index)
        claim.job.deaths.pop(claim.index, None)
        return True

    def fail(self, nonce: str, reason: str) -> bool:
        claim = self.drop(nonce)
        if claim is None:
            return False
        claim.job.failed[claim.index] = reason
        return True

    def release(self, nonce: str, *, delayed: bool) -> bool:
        claim = self.drop(nonce)
        if claim is None:
            return False
        self.hand_back(claim, delayed=delayed)
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
            assert claim is not None
            job = claim.job
            if claim.worker in self.alive:
                handed_back += 1
                self.hand_back(claim)
                continue
            self.dead[nonce] = (job.id, claim.index)
            job.deaths[claim.index] = job.deaths.get(claim.index, 0) + 1
            if job.deaths[claim.index] >= 3 and not job.cancelled:
                failed += 1
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
        """The backoff of all images of `model` is over. The ledger notices it at the next claim, as here."""
        due = [(job, index) for job in self.jobs.values() if job.model == model for index in job.delayed]
        for job, index in sorted(due, key=lambda image: f"{image[0].id} {image[1]}"):
            job.delayed.remove(index)
            if not job.cancelled:
                job.wait_again(index)
                self.place(job)

    def interrupt(self, job: PlainJob) -> int:
        if job.cancelled or job.state is JobState.DONE:
            return 0
        dropped = self.cancel(job) - len(job.running)
        job.interrupted = True
        return dropped

    def cancel(self, job: PlainJob) -> int:
        if job.interrupted:
            job.interrupted = False
            return len(job.running)
        if job.cancelled or job.state is JobState.DONE:
            return 0
        job.cancelled = True
        job.back.clear()
        job.suspects.clear()
        self.place(job)
        return job.n - len(job.done) - len(job.failed)

    def pause(self, job: PlainJob) -> bool:
        if job.paused or job.state is JobState.DONE:
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
        self.schedule.pop(job.id, None)
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

    def place(self, job: PlainJob) -> None:
        if job.open and (job.fresh < job.n or job.back):
            if job.id not in self.schedule:
                peers = [
                    at
                    for other, at in self.schedule.items()
                    if (self.jobs[other].model, self.jobs[other].priority) == (job.model, job.priority)
                ]
                self.schedule[job.id] = max(
                    job.virtual_time, min(peers, default=self.floor.get((job.model, job.priority), 0))
                )
        elif job.id in self.schedule:
            job.virtual_time = self.schedule.pop(job.id)

    def waiting(self, model: str, limit: int) -> int:
        jobs = [job for job in self.jobs.values() if job.model == model and job.open]
        return min(sum(job.n - job.fresh + len(job.back) + len(job.suspects) for job in jobs), limit)
