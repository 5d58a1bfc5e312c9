"""The record of jobs and images in Redis: the only truth about what is pending, running, done and failed.

Each method is one atomic call. Time is Redis' clock, never a host's. Every method raises `Unavailable` when
Redis does not answer. The call may have taken effect then; it may be made again, and takes effect once.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from time import monotonic
from typing import Any

import msgpack
from redis import ResponseError

from img2img_shared.errors import Conflict, NotFound, Refused, Unavailable, one_line
from img2img_shared.job import Job
from img2img_shared.ledger import keys
from img2img_shared.ledger.connect import FarmRedis
from img2img_shared.ledger.replies import event, image_statuses, job_status, worker_status
from img2img_shared.records import (
    Claim,
    Event,
    ImageStatus,
    JobPage,
    JobStatus,
    Lost,
    Sweep,
    WorkerInfo,
    WorkerStatus,
)
from img2img_shared.settings import Acknowledge
from img2img_shared.wire import decode_job, encode_job

#: characters of a failure's reason that are kept
REASON = 1000
#: images whose state one call gives
IMAGES = 1000
#: jobs, and workers, that one call to Redis gives
JOBS = WORKERS = 100
#: seconds for which tickets are kept that no janitor asks about
TICKETS_KEPT = 60
#: seconds a janitor stays elected without a round, where that is not longer than a quarter lease
TERM = 3.0
#: seconds for which one command blocks at most, well below the least time-out of a socket
BLOCK = 2.0
#: seconds within which a job must be where `acknowledge` wants it, below the least time-out of a socket
KEPT_WITHIN = 2.5
#: what a submit waits for, by `acknowledge`: so many copies on the disk here, so many replicas
_WAITS: dict[Acknowledge, tuple[str | int, ...]] = {
    "memory": (),
    "disk": ("WAITAOF", 1, 0),
    "replica": ("WAIT", 1),
}


class Ledger:
    """The ledger of one farm.

    `lease` is how many seconds an attempt may go unheard of; all workers of a farm must agree on it. Jobs
    submitted here are forgotten `keep_jobs` seconds after they finished, and are acknowledged when Redis has
    them in its memory, or on its disk, or when a replica has them, too (`acknowledge`).
    """

    def __init__(
        self,
        redis: FarmRedis,
        *,
        lease: float = 30.0,
        keep_jobs: float = 7 * 24 * 3600,
        acknowledge: Acknowledge = "memory",
    ) -> None:
        self.lease = lease
        self._lease_ms = round(lease * 1000)
        self._keep_ms = round(keep_jobs * 1000)
        self._redis = redis
        self._acknowledge: Acknowledge = acknowledge

    # What a producer calls.

    def check_acknowledge(self) -> None:
        """That this server can promise what `acknowledge` asks for. Replicas may come, and go, later.

        Raises:
            Refused: it cannot.
        """
        if wait := _WAITS[self._acknowledge]:
            try:
                self._redis.call(*wait, 1)
            except ResponseError as error:
                wanted = f"what this Redis can do ({error}); for disk: version 7.2 and appendonly yes"
                raise Refused("acknowledge", self._acknowledge, wanted) from None

    def submit(self, job: Job, request: Mapping[str, str] | None = None) -> str:
        """Writes a job and gives its id, or that of the tenant's first job with its idempotency key.

        O(1) in time and memory, whatever the number of images. The inputs must lie in the store by now.

        Args:
            request: what was asked for, by its parts: with the same key it must be the same.

        Raises:
            Conflict: the key's first job was made from another request.
            Refused: another job has this id, or it was given up (see `Submissions.abandoned`).
            Unavailable: also where what `acknowledge` asks for has not happened within `KEPT_WITHIN` seconds.
        """
        answer = self._submit(
            job.id,
            job.tenant,
            job.model,
            job.n,
            job.priority,
            encode_job(job),
            job.idempotency_key or "",
            self._keep_ms,
            msgpack.packb(dict(request or {})),
        )
        if answer is None:
            raise Refused("id", job.id, "an id that no other job has")
        if answer == b"abandoned":
            raise Refused("id", job.id, "a submission of some days at most: its inputs are not kept any more")
        first, kept = answer
        before = msgpack.unpackb(kept) if kept else {}  # none: an older version wrote it
        if before and request and before != request:
            raise Conflict(str(job.idempotency_key), before, request)
        return str(first, "utf-8")

    def repeated_model(self, tenant: str, idempotency_key: str | None) -> str | None:
        """The model of the job that a tenant's idempotency key has made; None: it has made none."""
        if idempotency_key is None:
            return None
        first = self._redis.call("GET", self._redis.key("once", tenant, idempotency_key))
        model = first and self._redis.call("HGET", self._redis.key("job", str(first, "utf-8")), "model")
        return str(model, "utf-8") if model else None

    def job(self, job_id: str, tenant: str) -> Job:
        """The job as it was submitted (its priority may have been changed since: see `status`).

        Raises:
            NotFound: the tenant has no such job.
            WireError: it was written by a version that this one cannot read.
        """
        owner, data = self._redis.call("HMGET", self._redis.key("job", job_id), "tenant", "data")
        if owner is None or str(owner, "utf-8") != tenant:
            raise _not_found(job_id)
        return decode_job(data)

    def knows(self, job_id: str) -> bool:
        """Whether there is such a job, whosever it is."""
        return bool(self._redis.call("EXISTS", self._redis.key("job", job_id)))

    def status(self, job_id: str, tenant: str) -> JobStatus:
        """Counts, rate and times of a job.

        Raises:
            NotFound: the tenant has no such job.
        """
        now, answer = self._found(job_id, self._redis.run("status", tenant, job_id))
        return job_status(tenant, now, answer)

    def jobs(self, tenant: str, limit: int = 100) -> list[JobStatus]:
        """The tenant's jobs, newest first, at most `limit`."""
        return self.page_of_jobs(tenant, limit=limit).jobs

    def page_of_jobs(self, tenant: str, after: str = "", limit: int = 100) -> JobPage:
        """Some of the tenant's jobs, newest first: at most `limit`, from where another page ended on.

        Redis is asked for a share at a time, so that it is never held up for long.

        Args:
            after: that page's `next`; "": from the newest on.

        Raises:
            Refused: that is no page's `next`, or a limit below 1.
        """
        if after and not re.fullmatch(r"\d{1,16} [A-Za-z0-9_-]{8,64}", after):
            raise Refused("after", after, "what the page before gave as next")
        if limit < 1:
            raise Refused("limit", limit, "a whole number above 0")
        found: list[JobStatus] = []
        more: str | None = after
        while more is not None and len(found) < limit:
            share = min(limit - len(found), JOBS)
            now, place, answers = self._redis.run("list_jobs", tenant, more, share)
            found += [job_status(tenant, now, answer) for answer in answers]
            more = str(place, "utf-8") or None
        return JobPage(jobs=found, next=more)

    def images(self, job_id: str, tenant: str, start: int = 0, count: int = IMAGES) -> list[ImageStatus]:
        """The state of `count` images from `start` on (at most 1000), or of as many as the job has.

        Raises:
            NotFound: the tenant has no such job.
            Refused: a negative start, or a count outside 1..1000.
        """
        if start < 0:
            raise Refused("start", start, "a whole number from 0")
        if not 1 <= count <= IMAGES:
            raise Refused("count", count, f"a whole number from 1 to {IMAGES}")
        answer = self._found(job_id, self._redis.run("images", tenant, job_id, start, count))
        return image_statuses(start, *answer)

    def cancel(self, job_id: str, tenant: str) -> int:
        """Ends a job: nothing of it is given out any more, and workers stop its images between two steps.

        Gives the number of images that are thereby not rendered; 0 for a job that had ended.

        Raises:
            NotFound: the tenant has no such job.
        """
        return self._control(job_id, tenant, "cancel")

    def interrupt(self, job_id: str, tenant: str) -> int:
        """As `cancel`, but images that a worker has end early and are done, as far as they are by then.

        Gives the number of images that are thereby not rendered; 0 for a job that had ended.

        Raises:
            NotFound: the tenant has no such job.
        """
        return self._control(job_id, tenant, "interrupt")

    def pause(self, job_id: str, tenant: str) -> bool:
        """Gives out no image of the job until `resume`; running ones go on. Says whether anything changed.

        Raises:
            NotFound: the tenant has no such job.
            Refused: the job was cancelled.
        """
        return bool(self._control(job_id, tenant, "pause"))

    def resume(self, job_id: str, tenant: str) -> bool:
        """Undoes `pause`; same answers."""
        return bool(self._control(job_id, tenant, "resume"))

    def set_priority(self, job_id: str, tenant: str, priority: int) -> bool:
        """Changes what goes first, from the next claim on; same answers as `pause`.

        Raises:
            Refused: outside -100..100.
        """
        if not -100 <= priority <= 100:
            raise Refused("priority", priority, "a whole number from -100 to 100; higher goes first")
        return bool(self._control(job_id, tenant, "priority", priority))

    def retry(self, job_id: str, tenant: str) -> int:
        """Gives every failed image of the job another chance and says how many these are.

        Raises:
            NotFound: the tenant has no such job.
            Refused: the job was cancelled.
        """
        failed = self.status(job_id, tenant).failed
        retried = 0
        # in shares, and not those that fail again meanwhile
        while (share := self._control(job_id, tenant, "retry")) and retried + share < failed:
            retried += share
        return retried + share

    def events(self, job_id: str, tenant: str, after: str = "0", block: float = 0.0) -> list[Event]:
        """Up to 500 events later than the event `after`, oldest first; waits up to `block` seconds for one.

        The stream keeps about the last 1000; each event carries the job's counters, so that a gap costs a
        watcher nothing but the detail.

        Raises:
            NotFound: the tenant has no such job.
            Refused: `after` is no event's id.
        """
        until = monotonic() + block
        stream = keys.events_key(self._redis.prefix, job_id)
        while True:
            self.status(job_id, tenant)
            wait = min(until - monotonic(), BLOCK)
            blocking = ("BLOCK", max(1, round(wait * 1000))) if wait > 0 else ()
            try:
                streams = self._redis.call("XREAD", "COUNT", 500, *blocking, "STREAMS", stream, after)
            except ResponseError:
                raise Refused("after", after, "the id of an event, or 0") from None
            if streams or monotonic() >= until:
                return [event(*entry) for _, entries in streams or () for entry in entries]

    def farm_id(self) -> str | None:
        """What the farm's store is known by; None: it has none yet."""
        found = self._redis.call("GET", self._redis.key("farm-id"))
        return None if found is None else str(found, "utf-8")

    def set_farm_id(self, farm_id: str) -> str:
        """`farm_id` is the farm's from now on, unless it has one already; the one it has."""
        self._redis.call("SET", self._redis.key("farm-id"), farm_id, "NX")
        return self.farm_id() or farm_id

    # What a worker calls.

    def claim(self, model: str, worker: str, nonce: str, *, idle: bool) -> Claim | None:
        """The next image of `model` for `worker`, or None when there is none for it now.

        Highest priority first, then the job that had least. Callers draw a new `nonce` for each image; with
        that of a claim that is still held, that claim is given again. So a lost reply is asked for.

        `idle` says that nothing runs or is being prepared in the worker. Only then it may get a suspect
        (``alone=True``), and nothing beside it until that one is finished, failed or released. While a
        suspect waits, one busy worker is given nothing until it is idle.
        """
        answer = self._redis.run("claim", model, worker, nonce, self._lease_ms, int(idle))
        if answer is None:
            return None
        job_id, tenant, index, attempt, alone = answer
        return Claim(
            job_id=str(job_id, "utf-8"),
            tenant=str(tenant, "utf-8"),
            index=index,
            attempt=attempt,
            model=model,
            worker=worker,
            nonce=nonce,
            alone=bool(alone),
        )

    def renew(self, claims: Sequence[Claim]) -> list[Lost]:
        """Holds on to `claims` (of one model) for another lease, and names those that must stop, or soon."""
        if not claims:
            return []
        models = {claim.model for claim in claims}
        if len(models) > 1:
            raise Refused("claims", sorted(models), "claims of one model")
        nonces = [claim.nonce for claim in claims]
        answers = self._redis.run("renew", models.pop(), self._lease_ms, *nonces)
        return [
            Lost(claim=claim, cancelled=answer == 2, interrupted=answer == 3)
            for claim, answer in zip(claims, answers, strict=True)
            if answer != 0
        ]

    def finish(self, claim: Claim) -> bool:
        """Reports that the picture is in the store.

        False: the attempt was not the current one, nothing happened.
        """
        return bool(self._redis.run("finish", claim.model, claim.nonce))

    def fail(self, claim: Claim, reason: str) -> bool:
        """Reports that the image cannot be rendered; `reason` (cut at 1000 characters) is shown to the user.

        False: the attempt was not the current one, nothing happened.
        """
        return bool(self._redis.run("fail", claim.model, claim.nonce, _kept(reason)))

    def release(self, claim: Claim, delay: float = 0.0, trouble: str = "") -> bool:
        """Gives the image back unfinished, to be given out again at once or after `delay` seconds.

        With `trouble`, what keeps this worker from rendering it, but perhaps not another: the delay doubles
        each time, for as long again others have the image to themselves, and at the fifth time it fails with
        that reason.

        False: the attempt was not the current one, nothing happened.
        """
        return bool(self._redis.run("release", claim.model, claim.nonce, round(delay * 1000), _kept(trouble)))

    def take_back(self, model: str, worker: str) -> Sweep | None:
        """The janitor's round, about once a second: takes back the leases that ran out.

        None: another worker is the janitor. After half a lease without any round (Redis was away) nothing is
        taken back for one lease, so that holders can renew first. An image whose worker does not `beat` is a
        suspect; after the third such death it fails.
        """
        term = round(min(TERM, self.lease / 4) * 1000)
        counts = [0, 0, 0]
        is_more = True
        while is_more:
            answer = self._redis.run("take_back", model, worker, self._lease_ms, term)
            if answer is None:
                return None
            *found, is_more = answer
            counts = [count + more for count, more in zip(counts, found, strict=True)]
        handed_back, suspects, failed = counts
        return Sweep(handed_back=handed_back, suspects=suspects, failed=failed)

    def waiting(self, model: str, limit: int) -> int:
        """How many images of `model` could be given out now, counted up to `limit`."""
        return int(self._redis.run("waiting", model, limit))

    def missing_tickets(self, model: str, limit: int) -> int:
        """How many tickets the queue of `model` lacks, to hold one for each waiting image, or `limit`.

        What is in it beyond that is removed: all, where nobody serves the model. They do not outlive those
        who would take them: after a minute without this question they are forgotten.
        """
        queue = keys.queue_key(self._redis.prefix, model)
        return int(self._redis.run("tickets", model, queue, limit, 1000 * TICKETS_KEPT))

    def keep_tickets(self, model: str) -> None:
        """Those that were published just now, for as long as others are."""
        self._redis.call("EXPIRE", keys.queue_key(self._redis.prefix, model), TICKETS_KEPT)

    def tickets(self, model: str) -> int:
        """How many tickets of `model` lie in its queue."""
        return int(self._redis.call("LLEN", keys.queue_key(self._redis.prefix, model)))

    def check_model(self, model: str, sha256: str) -> None:
        """That the farm knows no other checkpoint by the name of `model`.

        Raises:
            Refused: it does.
        """
        bound = self._redis.call("HGET", self._redis.key("models"), model)
        if bound is not None and bound != sha256.encode():
            raise _other_checkpoint(model, sha256, str(bound, "utf-8"))

    def bind_model(self, model: str, sha256: str, *, rebind: bool = False) -> None:
        """From now on the name of `model` stands for the checkpoint of that hash, until it is bound anew.

        Two that differ would render two pictures of one seed.

        Args:
            rebind: whatever it stands for now; workers with that end when they `beat`.

        Raises:
            Refused: it stands for another one.
        """
        bound = str(self._redis.run("bind", model, sha256, int(rebind)), "utf-8")
        if bound != sha256:
            raise _other_checkpoint(model, sha256, bound)

    def beat(self, info: WorkerInfo) -> bool:
        """Says that a worker lives, every quarter lease; after half a lease without, it counts as dead.

        False: the name of its model stands for another checkpoint by now, and it must end.
        """
        data = msgpack.packb(asdict(info))
        own = info.sha256 or ""
        bound = self._redis.run("beat", info.id, data, self._lease_ms // 2, info.model, own)
        return not own or bound == own.encode()

    def leave(self, worker: str) -> None:
        """Says that a worker ends: nobody waits for it, as they would until its last beat is over."""
        self._redis.run("leave", worker)

    def cancels(self, after: str) -> tuple[set[str], str]:
        """The jobs that were cancelled since a call gave `after`, and what to give next time; "0" at first.

        About the last 1000 are known. `renew` tells the same, later.
        """
        found = self._redis.call("XREAD", "COUNT", 1000, "STREAMS", self._redis.key("cancels"), after)
        entries = found[0][1] if found else []
        jobs = {str(fields[b"job"], "utf-8") for _, fields in entries}
        return jobs, str(entries[-1][0], "utf-8") if entries else after

    def served(self) -> list[str]:
        """The models that live workers have, in order."""
        return sorted(str(model, "utf-8") for model in self._redis.run("served"))

    def workers(self) -> list[WorkerStatus]:
        """The workers that live."""
        names = self._redis.call("ZRANGE", self._redis.key("workers"), 0, -1)
        shares = [names[start : start + WORKERS] for start in range(0, len(names), WORKERS)]
        return [worker_status(*answer) for share in shares for answer in self._redis.run("workers", *share)]

    def _submit(self, *arguments: str | bytes | int) -> Any:
        wait = _WAITS[self._acknowledge]
        if not wait:
            return self._redis.run("submit", *arguments)
        milliseconds = round(KEPT_WITHIN * 1000)
        answer, kept = self._redis.run_and_wait("submit", *arguments, wait=(*wait, milliseconds))
        if not (kept[0] if isinstance(kept, list) else kept):
            where = "Redis' disk" if self._acknowledge == "disk" else "a replica of Redis"
            raise Unavailable(f"the job is not on {where} after {KEPT_WITHIN:g} s (IMG2IMG_ACKNOWLEDGE)")
        return answer

    def _control(self, job_id: str, tenant: str, verb: str, value: int = 0) -> int:
        answer = self._found(job_id, self._redis.run("control", tenant, job_id, verb, value))
        if answer == b"cancelled":
            raise Refused("job", job_id, "a job that was not cancelled")
        return int(answer)

    def _found(self, job_id: str, answer: Any) -> Any:
        if answer is None:
            raise _not_found(job_id)
        return answer


def _kept(reason: str) -> bytes:
    """A reason as it is kept: it may quote what users or damaged files say, and is shown on terminals."""
    return one_line(reason[:REASON])[:REASON].encode()


def _other_checkpoint(model: str, sha256: str, bound: str) -> Refused:
    return Refused(
        "model",
        model,
        f"the checkpoint that this farm knows by the name, of SHA-256 {bound}; that of this one is {sha256}. "
        "Give it another name, or, if it is to take the name over, start its worker with --rebind",
    )


def _not_found(job_id: str) -> NotFound:
    return NotFound(f"no job {job_id!r}: it never was, was forgotten, or belongs to another tenant")
