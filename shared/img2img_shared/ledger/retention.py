"""The part of the ledger that says how long things are kept, and proves that something may be removed."""

from collections.abc import Sequence
from dataclasses import dataclass

from img2img_shared.ledger.connect import FarmRedis

#: jobs, and pictures, that one call is about
SHARE, PICTURES = 100, 50
#: jobs that are known to be a tenant's last, as in submit.lua
SUBMITTED = 100


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What the ledger knows about a job that the store has something of."""

    #: None: it has no such job (any more)
    tenant: str | None
    #: the job as it was written
    data: bytes | None = None
    #: its inputs are being written
    is_begun: bool = False
    #: it was removed, or given up before it came to be
    is_removed: bool = False

    @property
    def is_unknown(self) -> bool:
        """Whether it may be anything: forgotten, lost with a ledger, or another farm's."""
        return self.tenant is None and not self.is_begun and not self.is_removed


class Retention:
    """The retention of one farm. Every method raises `Unavailable` when Redis does not answer."""

    def __init__(self, redis: FarmRedis) -> None:
        self._redis = redis

    def is_begun(self) -> bool:
        """Whether the ledger knows which store is the farm's; it does not before the first submit."""
        return bool(self._redis.call("EXISTS", self._redis.key("farm-id")))

    def now(self) -> float:
        """Seconds since 1970, by Redis' clock."""
        seconds, micros = self._redis.call("TIME")
        return int(seconds) + int(micros) / 1e6

    def expire(self) -> int:
        """Forget some of the jobs whose time is over; returns how many were looked at.

        Their results are then among the `removals`.
        """
        return int(self._redis.run("expire", SHARE))

    def due(self) -> list[str]:
        """The jobs that `expire` would forget now."""
        end = round(1000 * self.now())
        found = self._redis.call("ZRANGEBYSCORE", self._redis.key("due"), "-inf", end)
        return [str(job, "utf-8") for job in found]

    def has_removals(self) -> bool:
        """Whether there is anything for `expire` to do, or anything among the `removals`."""
        end = round(1000 * self.now())
        keys = self._redis.key("due"), self._redis.key("removed")
        return any(self._redis.call("ZCOUNT", key, "-inf", end) for key in keys)

    def removals(self, turn: float) -> list[str]:
        """Some of the removed jobs whose results may still be in the store; on a second look, "ID again".

        For `turn` seconds no other caller gets them.
        """
        return [str(each, "utf-8") for each in self._redis.run("removals", round(1000 * turn), SHARE)]

    def cleared(self, removal: str, later: float) -> None:
        """Note that nothing is left of a removed job; the first time, look again in `later` seconds."""
        self._redis.run("cleared", removal, round(1000 * later))

    def take_orphan(self, job_id: str) -> bool:
        """Prevent any submit of a job with this id, which is an orphan; False if the job exists."""
        return bool(self._redis.run("take_orphan", job_id))

    def standings(self, job_ids: Sequence[str]) -> list[Standing]:
        """The standings of these jobs."""
        found = []
        for start in range(0, len(job_ids), SHARE):
            for tenant, what in self._redis.run("standings", *job_ids[start : start + SHARE]):
                if tenant:
                    found.append(Standing(tenant=str(tenant, "utf-8"), data=what))
                else:
                    facts = {"is_begun": what == b"begun", "is_removed": what == b"removed"}
                    found.append(Standing(tenant=None, **facts))
        return found

    def doom(
        self, tenant: str, digests: Sequence[str], *, latest: str, turn: float, generation: int
    ) -> list[str] | None:
        """Of these pictures, named by no job up to `latest`, those that no job is about to name, or can now.

        Args:
            digests: at most `PICTURES`.
            turn: seconds within which the caller removes or spares them.
            generation: the ledger's generation when these were found.

        Returns:
            None: jobs were submitted since then, or the ledger was replaced by a copy.
        """
        marks = latest, round(1000 * turn), generation
        doomed = self._redis.run("doom", tenant, *marks, *digests)
        return None if doomed is None else [str(each, "utf-8") for each in doomed]

    def latest(self, tenant: str) -> str:
        """The id of the tenant's last submitted job; "" if there is none."""
        found = self._redis.call("LINDEX", self._redis.key("submitted", tenant), -1)
        return "" if found is None else str(found, "utf-8")

    def submitted_since(self, tenant: str, latest: str) -> list[str] | None:
        """The jobs that the tenant has submitted since `latest`, newest first; None if there are too many."""
        found = self._redis.call("LRANGE", self._redis.key("submitted", tenant), 0, -1)
        jobs = [str(each, "utf-8") for each in reversed(found)]
        if latest in jobs:
            return jobs[: jobs.index(latest)]
        return jobs if not latest and len(jobs) < SUBMITTED else None

    def spare(self, tenant: str, digests: Sequence[str]) -> None:
        """End the removal of these pictures: they are gone, or stay, and may be named again."""
        if digests:
            names = [f"{tenant}/{digest}" for digest in digests]
            self._redis.call("HDEL", self._redis.key("doomed"), *names)

    def note(self, fact: str) -> float | None:
        """One of the numbers that the janitor remembers, or None."""
        found = self._redis.call("HGET", self._redis.key("janitor"), fact)
        return None if found is None else float(found)

    def set_note(self, fact: str, value: float) -> None:
        """Remember a number."""
        self._redis.call("HSET", self._redis.key("janitor"), fact, repr(value))
