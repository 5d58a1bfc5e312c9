"""What tenants have under way, and what is being written for them: held to a quota before it is written."""

from img2img_shared.ledger.connect import FarmRedis


class Reservations:
    """Those of one farm. Methods raise `Unavailable` when Redis does not answer."""

    def __init__(self, redis: FarmRedis) -> None:
        self._redis = redis

    def make(
        self, tenant: str, job_id: str, n: int, quota: int, idempotency_key: str | None = None
    ) -> int | None:
        """Count a job of `n` images that is about to be written; a repeat of an earlier one counts nothing.

        Returns:
            None: there is room for it; else how many images the tenant has under way.
        """
        under_way = int(self._redis.run("reserve", tenant, job_id, n, quota, idempotency_key or ""))
        return under_way if under_way >= 0 else None

    def drop(self, tenant: str, job_id: str) -> None:
        """The job was not written after all."""
        self._redis.call("HDEL", self._redis.key("gateway", "open", tenant), job_id)
