"""The number of images that tenants have under way, including jobs being written, which a quota limits."""

from img2img_shared.ledger.connect import FarmRedis


class Reservations:
    """The reservations of one farm. Methods raise `Unavailable` when Redis does not answer."""

    def __init__(self, redis: FarmRedis) -> None:
        self._redis = redis

    def make(
        self, tenant: str, job_id: str, n: int, quota: int, idempotency_key: str | None = None
    ) -> int | None:
        """Reserve `n` images for a job that is about to be written; a repeated job reserves nothing.

        Returns:
            None: they are reserved. Otherwise the quota is exceeded, and this is how many images the tenant
                has under way.
        """
        under_way = int(self._redis.run("reserve", tenant, job_id, n, quota, idempotency_key or ""))
        return under_way if under_way >= 0 else None
