"""The jobs whose inputs are being written, so that abandoned ones can be found."""

from collections.abc import Collection, Iterable

from img2img_shared.ledger.connect import FarmRedis

#: submissions that one call gives
SHARE = 100


class Submissions:
    """The submissions of one farm. Every method raises `Unavailable` when Redis does not answer."""

    def __init__(self, redis: FarmRedis) -> None:
        self._redis = redis

    def begin(self, job_id: str) -> None:
        """Note that a job's inputs are about to be written."""
        self._redis.run("begin", job_id)

    def abandoned(self, age: float, turn: float) -> list[str]:
        """Jobs begun more than `age` seconds ago and never written; from now on the ledger refuses them.

        For `turn` seconds no other caller gets them; after that they are returned again, unless forgotten.
        """
        found = self._redis.run("abandoned", round(age * 1000), round(turn * 1000), SHARE)
        return [str(job, "utf-8") for job in found]

    def hold(
        self, job_id: str, tenant: str, digests: Collection[str], lifetime: float, size: int = 0
    ) -> bool:
        """Keep janitors from pictures that a submission is about to name; False: one is being removed now.

        Args:
            digests: those of the tenant's pictures.
            size: bytes that are about to be written, which now count towards the tenant's limit.
            lifetime: seconds after which they are released, if the submission is never completed.
        """
        return bool(self._redis.run("hold", job_id, tenant, round(1000 * lifetime), size, *digests))

    def forget(self, job_ids: Iterable[str]) -> None:
        """Note that nothing is left of what was written for these jobs."""
        ids = list(job_ids)
        self._redis.call("ZREM", self._redis.key("submissions"), *ids)
        self._redis.call("UNLINK", *(self._redis.key("naming", each) for each in ids))
