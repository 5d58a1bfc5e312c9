"""Previews of images under way: kept for seconds, and made only while somebody watches."""

from collections.abc import Collection

from img2img_shared.errors import NotFound
from img2img_shared.ledger import keys
from img2img_shared.ledger.connect import FarmRedis

#: seconds for which one look at a job has its workers show its images
WATCHED = 10
#: seconds for which a preview is kept
KEPT = 10


class Previews:
    """The previews of one farm. Every method raises `Unavailable` when Redis does not answer."""

    def __init__(self, redis: FarmRedis) -> None:
        self._prefix = redis.prefix
        self._call = redis.call

    def look(self, job_id: str, tenant: str, index: int) -> bytes | None:
        """A small JPEG of an image as it was a moment ago, or None if there is none (yet).

        The first call requests previews, and each call keeps them coming for ten more seconds.

        Raises:
            NotFound: the tenant has no such job.
        """
        self._watch(job_id, tenant)
        jpeg: bytes | None = self._call("GET", keys.preview_key(self._prefix, job_id, index))
        return jpeg

    def steps(self, job_id: str, tenant: str, indices: Collection[int]) -> list[tuple[int, int]]:
        """(model calls done, in all) of those of the images that report it. Also requests previews.

        Raises:
            NotFound: the tenant has no such job.
        """
        if not indices:
            return []
        self._watch(job_id, tenant)
        found = self._call("MGET", *(keys.steps_key(self._prefix, job_id, index) for index in indices))
        pairs = (counts.split() for counts in found if counts is not None)
        return [(int(done), int(total)) for done, total in pairs]

    def watched(self, job_ids: Collection[str]) -> set[str]:
        """Which of the jobs somebody has recently looked at."""
        if not job_ids:
            return set()
        ids = list(job_ids)
        marks = self._call("MGET", *(keys.watched_key(self._prefix, job_id) for job_id in ids))
        return {job_id for job_id, mark in zip(ids, marks, strict=True) if mark is not None}

    def show(self, job_id: str, index: int, jpeg: bytes) -> None:
        """Store a preview."""
        self._call("SET", keys.preview_key(self._prefix, job_id, index), jpeg, "EX", KEPT)

    def count(self, job_id: str, index: int, done: int, total: int) -> None:
        """Store how many of an image's model calls are done."""
        self._call("SET", keys.steps_key(self._prefix, job_id, index), f"{done} {total}", "EX", KEPT)

    def _watch(self, job_id: str, tenant: str) -> None:
        owner = self._call("HGET", keys.job_key(self._prefix, job_id), "tenant")
        if owner is None or str(owner, "utf-8") != tenant:
            raise NotFound(f"no job {job_id!r}: it never was, was forgotten, or belongs to another tenant")
        self._call("SET", keys.watched_key(self._prefix, job_id), 1, "EX", WATCHED)
