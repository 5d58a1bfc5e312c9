"""How many bytes each tenant has in the store: what the janitor last counted, and later uploads."""

from dataclasses import dataclass

from img2img_shared.farm.sweep import Found
from img2img_shared.ledger.connect import FarmRedis
from img2img_shared.ledger.tables import Table


@dataclass(frozen=True, kw_only=True)
class TenantStorage:
    """The storage of one tenant, in bytes."""

    tenant: str
    #: pictures that were uploaded, when the janitor looked last
    inputs: int = 0
    #: results, and what jobs list, at that time
    results: int = 0
    #: written since then
    since: int = 0

    @property
    def bytes(self) -> int:
        """The total."""
        return self.inputs + self.results + self.since


class Storage:
    """The storage of one farm's tenants. Methods raise `Unavailable` when Redis does not answer."""

    def __init__(self, redis: FarmRedis) -> None:
        self._call = redis.call
        self._counts = redis.key("stored")
        self._table = Table(redis, "storage")

    def of(self, tenant: str) -> TenantStorage:
        """That of one tenant."""
        since = int(self._call("HGET", self._counts, tenant) or 0)
        found = self._table.get(tenant) or {}
        with self._table.reading():
            return TenantStorage(tenant=tenant, since=since, **found)

    def all(self) -> list[TenantStorage]:
        """That of every tenant that has something, the largest first."""
        table, counted = self._table.all(), self.counted()
        with self._table.reading():
            found = [
                TenantStorage(tenant=tenant, since=counted.get(tenant, 0), **table.get(tenant, {}))
                for tenant in table.keys() | counted.keys()
            ]
        return sorted(found, key=lambda each: (-each.bytes, each.tenant))

    def counted(self) -> dict[str, int]:
        """Bytes written since the last sweep, by tenant."""
        found: dict[bytes, bytes] = self._call("HGETALL", self._counts)
        return {str(tenant, "utf-8"): int(count) for tenant, count in found.items()}

    def write(self, found: Found, before: dict[str, int]) -> None:
        """Record the result of a sweep; `before` is what was `counted` when it began."""
        tenants = found.inputs.keys() | found.results.keys()
        for tenant in self._table.all().keys() - tenants:
            self._table.remove(tenant)
        self._table.put(
            {tenant: {"inputs": found.inputs[tenant], "results": found.results[tenant]} for tenant in tenants}
        )
        for tenant, count in before.items():
            if int(self._call("HINCRBY", self._counts, tenant, -count)) <= 0:
                self._call("HDEL", self._counts, tenant)
