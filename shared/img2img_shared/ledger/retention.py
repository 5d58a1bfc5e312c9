"""What the ledger knows of how long things are kept, and proves before anything is removed from the store."""

from collections.abc import Sequence
from dataclasses import dataclass

from img2img_shared.ledger.connect import FarmRedis

#: jobs, and pictures, that one call is about
SHARE, PICTURES = 100, 50
#: jobs that are known to be a tenant's last, as in submit.lua
SUBMITTED = 100


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What the ledger knows of a job of which the store has something."""

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
        """It may be anything: forgotten, or lost with a ledger, or another farm's."""
        return self.tenant is None and not self.is_begun and not self.is_removed


class Retention:
    """One farm's. Every method raises `Unavailable` when Redis does not answer."""

    def __init__(self, redis: FarmRedis) -> None:
        self._redis = redis

    def is_begun(self) -> bool:
        """Whether the ledger knows which store is the farm's; before its first submit nothing there is."""
        return bool(self._redis.call("EXISTS", self._redis.key("farm-id")))

    def now(self) -> float:
        """Seconds since 1970, by Redis' clock."""
        seconds, micros = self._redis.call("TIME")
        return int(seconds) + int(micros) / 1e6

    def expire(self) -> int:
        """Forget jobs whose time to be kept is over, some at most; how many were looked at.

        Their results are among the `removals` then.
        """
        return int(self._redis.run("expire", SHARE))

    def due(self) -> list[str]:
        """The jobs that `expire` would forget now."""
        end = round(1000 * self.now())
        found = self._redis.call("ZRANGEBYSCORE", self._redis.key("due"), "-inf", end)
        return [str(job, "utf-8") for job in found]

    def has_removals(self) -> bool:
        """Whether there is anything for `expire`, or among the `removals`."""
        end = round(1000 * self.now())
        keys = self._redis.key("due"), self._redis.key("removed")
        return any(self._redis.call("ZCOUNT", key, "-inf", end) for key in keys)

    def removals(self, turn: float) -> list[str]:
        """Jobs that were removed and whose results may still lie there, some at most; later "ID again".

        They are the caller's for `turn` seconds.
        """
        return [str(each, "utf-8") for each in self._redis.run("removals", round(1000 * turn), SHARE)]

    def cleared(self, removal: str, later: float) -> None:
        """Nothing is left of it. The first time, it is looked for once more `later` seconds from now."""
        self._redis.run("cleared", removal, round(1000 * later))

    def take_orphan(self, job_id: str) -> bool:
        """Let nobody submit a job of this id, of which only the store has something; False: it is there."""
        return bool(self._redis.run("take_orphan", job_id))

    def standings(self, job_ids: Sequence[str]) -> list[Standing]:
        """Those of some jobs."""
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
        """Of pictures that no job up to the `latest` names those that none is about to name, nor can now.

        Args:
            digests: `PICTURES` at most.
            turn: seconds within which they are removed or spared.
            generation: what the ledger was known by then.

        Returns:
            None: jobs have come since then, or the ledger was replaced by a copy.
        """
        marks = latest, round(1000 * turn), generation
        doomed = self._redis.run("doom", tenant, *marks, *digests)
        return None if doomed is None else [str(each, "utf-8") for each in doomed]

    def latest(self, tenant: str) -> str:
        """The job that the tenant submitted last; "": none."""
        found = self._redis.call("LINDEX", self._redis.key("submitted", tenant), -1)
        return "" if found is None else str(found, "utf-8")

    def submitted_since(self, tenant: str, latest: str) -> list[str] | None:
        """The jobs that the tenant has submitted since the `latest`, newest first; None: too many."""
        found = self._redis.call("LRANGE", self._redis.key("submitted", tenant), 0, -1)
        jobs = [str(each, "utf-8") for each in reversed(found)]
        if latest in jobs:
            return jobs[: jobs.index(latest)]
        return jobs if not latest and len(jobs) < SUBMITTED else None

    def spare(self, tenant: str, digests: Sequence[str]) -> None:
        """They are gone, or stay: they can be named again."""
        if digests:
            names = [f"{tenant}/{digest}" for digest in digests]
            self._redis.call("HDEL", self._redis.key("doomed"), *names)

    def note(self, fact: str) -> float | None:
        """One of the numbers that the janitor goes by; None: it has none."""
        found = self._redis.call("HGET", self._redis.key("janitor"), fact)
        return None if found is None else float(found)

    def set_note(self, fact: str, value: float) -> None:
        """Keep it."""
        self._redis.call("HSET", self._redis.key("janitor"), fact, repr(value))
