"""Limits how many images a key's tenant may have under way, and how large a job may be."""

from img2img_gateway.api_keys import ApiKey
from img2img_gateway.gateway_errors import Problem
from img2img_shared.errors import Refused, Summary
from img2img_shared.farm.storage import Storage
from img2img_shared.ledger import FarmRedis
from img2img_shared.ledger.reservations import Reservations


class Quota:
    """Enforces the limits of keys."""

    def __init__(self, redis: FarmRedis) -> None:
        self._reservations = Reservations(redis)
        self._storage = Storage(redis)

    def check_storage(self, key: ApiKey) -> None:
        """Check that the key's tenant may store more.

        Raises:
            Problem: 413, its storage is used up.
            Unavailable: Redis does not answer.
        """
        if key.storage is None:
            return
        stored = self._storage.of(key.tenant).bytes
        if stored >= key.storage:
            raise Problem(
                413,
                f"{stored:,} bytes are stored for {key.tenant}, and this key allows {key.storage:,}: remove "
                "jobs that are done (DELETE /v1/jobs/ID), or ask for more room",
            )

    def reserve(self, key: ApiKey, job_id: str, n: int, idempotency_key: str | None) -> None:
        """Count a job of `n` images that is about to be written; a repeat counts nothing more.

        Raises:
            Refused: it is larger than the key's jobs may be.
            Problem: 429, too many images of the tenant are under way.
            Unavailable: Redis does not answer.
        """
        if key.largest is not None and n > key.largest:
            raise Refused(
                "inputs", Summary(f"{n:,} images"), f"this key allows at most {key.largest:,} images in a job"
            )
        self.reserve_again(key, job_id, n, idempotency_key)

    def reserve_again(self, key: ApiKey, job_id: str, n: int, idempotency_key: str | None = None) -> None:
        """Count `n` images of a job, as large as it may be, that are about to wait (again).

        Raises:
            Problem: 429, too many images of the tenant are under way.
            Unavailable: Redis does not answer.
        """
        if key.quota is None or not n:
            return
        under_way = self._reservations.make(key.tenant, job_id, n, key.quota, idempotency_key)
        if under_way is not None:
            raise Problem(
                429,
                f"this key may have {key.quota:,} images under way: {under_way:,} are, and {n:,} more are "
                "too many; wait until some have ended, or cancel some",
                field="inputs",
                headers={"Retry-After": "10"},
            )
