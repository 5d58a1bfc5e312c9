"""The part of the ledger that keeps jobs and the states of their images."""

import re
from collections.abc import Iterator, Mapping
from time import monotonic
from typing import Any

import msgpack
from redis import ResponseError

from img2img_shared.errors import Conflict, NotFound, Refused, Unavailable
from img2img_shared.job import Job
from img2img_shared.ledger import keys
from img2img_shared.ledger.connect import reading
from img2img_shared.ledger.part import LedgerPart
from img2img_shared.ledger.replies import event, image_statuses, job_status
from img2img_shared.records import Event, ImageStatus, JobPage, JobStatus
from img2img_shared.wire import decode_job, encode_job

#: images whose state one call gives
IMAGES = 1000
#: jobs that one call to Redis gives
JOBS = 100
#: seconds for which one command blocks at most, well below the least time-out of a socket
BLOCK = 2.0
#: seconds within which a job must be where `acknowledge` wants it, below the least time-out of a socket
KEPT_WITHIN = 2.5


class JobRecords(LedgerPart):
    """Jobs, by tenant."""

    def check_acknowledge(self) -> None:
        """Check that this server can do what `acknowledge` asks for. Replicas may come and go later.

        Raises:
            Refused: it cannot.
        """
        if self._acknowledge == "memory":
            return
        try:
            self._redis.call(*self._wait(1), 1)
        except ResponseError as error:
            reason = f"this Redis cannot do that ({error}); for disk it needs version 7.2 and appendonly yes"
            raise Refused("acknowledge", self._acknowledge, reason) from None

    def submit(
        self, job: Job, request: Mapping[str, str] | None = None, *, whole: tuple[str, int] | None = None
    ) -> str:
        """Write a job and return its id, or that of the tenant's first job with its idempotency key.

        O(1) in time and memory, whatever the number of images. The inputs must be in the store by now.

        Args:
            request: the request, by its parts; a repeat with the same key must have the same.
            whole: job and index of the image whose tiles these are. Whatever is done to that job is done to
                this one, too, and the image can be claimed again when this one has ended (see `wait_for`).

        Raises:
            Conflict: the key's first job was made from another request.
            Refused: another job has this id, or it was given up (see `Submissions.abandoned`),
                or the job of the `whole` was cancelled, or a pushed model is gone that it names.
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
            job.name or "",
            job.owner or "",
            ",".join(job.tags),
            "" if job.keep is None else round(1000 * job.keep),
            "" if whole is None else f"{whole[0]} {whole[1]}",
            *job.files.values(),
        )
        if isinstance(answer, bytes) and answer.startswith(b"gone "):
            name = next(name for name, sha256 in job.files.items() if sha256.encode() == answer[5:])
            raise Refused("files", name, "it was removed from the store just now; push it again")
        if answer is None:
            raise Refused("id", job.id, "another job has it; give a new one")
        if answer == b"abandoned":
            raise Refused("id", job.id, "it was begun too long ago, and its inputs are gone; submit again")
        first, kept = answer
        before = msgpack.unpackb(kept) if kept else {}  # none: an older version wrote it
        if before and request and before != request:
            parts = {*before, *request}
            differs = [part for part in parts if before.get(part) != request.get(part)]
            raise Conflict(str(job.idempotency_key), differs)
        return str(first, "utf-8")

    def repeated_model(self, tenant: str, idempotency_key: str | None) -> str | None:
        """The model of the job that a tenant's idempotency key has made, or None."""
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
        if owner != tenant.encode():
            raise _not_found(job_id)
        return decode_job(data)

    def unfinished_jobs(self) -> Iterator[Job]:
        """All tenants' jobs with unfinished images; not to be called often.

        Raises:
            WireError: a newer version wrote one.
        """
        for job_id in self._redis.call("HKEYS", self._redis.key("open")):
            data = self._redis.call("HGET", self._redis.key("job", str(job_id, "utf-8")), "data")
            if data is not None:
                yield decode_job(data)

    def status(self, job_id: str, tenant: str) -> JobStatus:
        """The counts, rate and times of a job.

        Raises:
            NotFound: the tenant has no such job.
        """
        return job_status(tenant, self._found(job_id, self._redis.run("status", tenant, job_id)))

    def jobs(self, tenant: str, limit: int = 100) -> list[JobStatus]:
        """The tenant's jobs, newest first, at most `limit`."""
        return self.page_of_jobs(tenant, limit=limit).jobs

    def page_of_jobs(self, tenant: str, after: str = "", limit: int = 100) -> JobPage:
        """A page of at most `limit` of the tenant's jobs, newest first, continuing where another page ended.

        Redis is asked for a few at a time, so that it is never blocked for long.

        Args:
            after: that page's `next`; "": start with the newest.

        Raises:
            Refused: `after` is not a page's `next`, or the limit is below 1.
        """
        if after and not re.fullmatch(r"\d{1,16} [A-Za-z0-9_-]{8,64}", after):
            raise Refused("after", after, "give the `next` of the page before")
        if limit < 1:
            raise Refused("limit", limit, "give a whole number from 1")
        found: list[JobStatus] = []
        more: str | None = after
        while more is not None and len(found) < limit:
            share = min(limit - len(found), JOBS)
            place, answers = self._redis.run("list_jobs", tenant, more, share)
            found += [job_status(tenant, answer) for answer in answers]
            more = str(place, "utf-8") or None
        return JobPage(jobs=found, next=more)

    def place_of(self, job: JobStatus) -> str:
        """The `next` of a page that ends with this job."""
        return f"{round(1000 * job.created.timestamp())} {job.id}"

    def images(self, job_id: str, tenant: str, start: int = 0, count: int = IMAGES) -> list[ImageStatus]:
        """The states of `count` images (at most 1000) from `start` on, or of as many as there are.

        Raises:
            NotFound: the tenant has no such job.
            Refused: a negative start, or a count outside 1..1000.
        """
        if start < 0:
            raise Refused("start", start, "give a whole number from 0")
        if not 1 <= count <= IMAGES:
            raise Refused("count", count, f"give a whole number from 1 to {IMAGES}")
        answer = self._found(job_id, self._redis.run("images", tenant, job_id, start, count))
        with reading(self._redis.key("job", job_id, "…")):
            return image_statuses(start, *answer)

    def running(self, job_id: str) -> list[int]:
        """The indexes of a job's images that workers are rendering."""
        return [int(index) for index in self._redis.call("HKEYS", self._redis.key("job", job_id, "running"))]

    def events(self, job_id: str, tenant: str, after: str = "0", block: float = 0.0) -> list[Event]:
        """Up to 500 events after the event `after`, oldest first; waits up to `block` seconds for one.

        The stream keeps about the last 1000. Each event carries the job's counters, so that after a gap a
        watcher lacks only details.

        Raises:
            NotFound: the tenant has no such job.
            Refused: `after` is not an event's id.
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
                raise Refused("after", after, "give the id of an event, or 0") from None
            if streams or monotonic() >= until:
                with reading(stream):
                    return [event(*entry) for _, entries in streams or () for entry in entries]

    def farm_id(self) -> str | None:
        """The id of the farm's store, or None if it has none yet."""
        found = self._redis.call("GET", self._redis.key("farm-id"))
        return None if found is None else str(found, "utf-8")

    def set_farm_id(self, farm_id: str) -> str:
        """Make `farm_id` the farm's, unless it has one already; returns the one it has."""
        self._redis.call("SET", self._redis.key("farm-id"), farm_id, "NX")
        return self.farm_id() or farm_id

    def begin_generations(self) -> None:
        """Note that the store began with this ledger, which so knows all of it (see `farm.ledger_age`)."""
        self._redis.call("HSETNX", self._redis.key("janitor"), "generation", 0)

    def _submit(self, *arguments: str | bytes | int) -> Any:
        if self._acknowledge == "memory":
            return self._redis.run("submit", *arguments)
        copies = self._redis.replicas() if self._acknowledge == "replica" else 1
        wait = (*self._wait(copies), round(KEPT_WITHIN * 1000))
        answer, kept = self._redis.run_and_wait("submit", *arguments, wait=wait)
        if (kept[0] if isinstance(kept, list) else kept) < copies:
            which = "a replica" if copies == 1 else f"all {copies} replicas"
            where = "Redis' disk" if self._acknowledge == "disk" else f"{which} of Redis"
            raise Unavailable(f"the job is not on {where} after {KEPT_WITHIN:g} s (IMG2IMG_ACKNOWLEDGE)")
        return answer

    def _wait(self, copies: int) -> tuple[str | int, ...]:
        """What waits for what `acknowledge` asks for, but for its time-out."""
        return ("WAITAOF", copies, 0) if self._acknowledge == "disk" else ("WAIT", copies)

    def _found(self, job_id: str, answer: Any) -> Any:
        if answer is None:
            raise _not_found(job_id)
        return answer


def _not_found(job_id: str) -> NotFound:
    return NotFound(f"no job {job_id!r}: it never was, was forgotten, or belongs to another tenant")
