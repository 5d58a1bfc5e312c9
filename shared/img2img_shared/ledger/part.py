"""The base of the ledger's parts."""

from img2img_shared.ledger.connect import FarmRedis
from img2img_shared.settings import Acknowledge


class LedgerPart:
    """One farm's Redis, and the farm's settings; see `Ledger`."""

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
