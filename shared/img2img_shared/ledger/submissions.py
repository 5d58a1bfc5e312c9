"""The jobs whose inputs are being written, so that those of which nothing comes are found again."""

from collections.abc import Collection, Iterable

from img2img_shared.ledger.connect import FarmRedis

#: submissions that one call gives
SHARE = 100


class Submissions:
    """Those of one farm. Every method raises `Unavailable` when Redis does not answer."""

    def __init__(self, redis: FarmRedis) -> None:
        self._redis = redis

    def begin(self, job_id: str) -> None:
        """A job's inputs are about to be written."""
        self._redis.run("begin", job_id)

    def abandoned(self, age: float, turn: float) -> list[str]:
        """Jobs begun more than `age` seconds ago that the ledger does not have, and will not take any more.

        They are the caller's for `turn` seconds; after that they are given out again, unless forgotten.
        """
        found = self._redis.run("abandoned", round(age * 1000), round(turn * 1000), SHARE)
        return [str(job, "utf-8") for job in found]

    def hold(
        self, job_id: str, tenant: str, digests: Collection[str], lifetime: float, size: int = 0
    ) -> bool:
        """Let no janitor remove pictures that a submission is about to name; False: one is being removed now.

        Args:
            digests: of pictures of the tenant.
            size: bytes that are about to be written, which count against the tenant's limit from now on.
            lifetime: seconds after which they are let go of, if the submission has come to nothing.
        """
        return bool(self._redis.run("hold", job_id, tenant, round(1000 * lifetime), size, *digests))

    def forget(self, job_ids: Iterable[str]) -> None:
        """Nothing is left of what was written for these."""
        ids = list(job_ids)
        self._redis.call("ZREM", self._redis.key("submissions"), *ids)
        self._redis.call("UNLINK", *(self._redis.key("naming", each) for each in ids))
