"""How many bytes each tenant has in the store: by the janitor's last look, and what was uploaded since."""

from dataclasses import dataclass

from img2img_shared.farm.sweep import Found
from img2img_shared.ledger.connect import FarmRedis
from img2img_shared.ledger.tables import Table


@dataclass(frozen=True, kw_only=True)
class TenantStorage:
    """Of one tenant, in bytes."""

    tenant: str
    #: pictures that were uploaded, when the janitor looked last
    inputs: int = 0
    #: results, and what jobs list, at that time
    results: int = 0
    #: written since then
    since: int = 0

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.inputs + self.results + self.since


class Storage:
    """Of one farm. Methods raise `Unavailable` when Redis does not answer."""

    def __init__(self, redis: FarmRedis) -> None:
        self._call = redis.call
        self._counts = redis.key("stored")
        self._table = Table(redis, "storage")

    def of(self, tenant: str) -> TenantStorage:
        """That of a tenant."""
        since = int(self._call("HGET", self._counts, tenant) or 0)
        return TenantStorage(tenant=tenant, since=since, **(self._table.get(tenant) or {}))

    def all(self) -> list[TenantStorage]:
        """Those of all tenants that have something, the largest first."""
        table, counted = self._table.all(), self.counted()
        found = [
            TenantStorage(tenant=tenant, since=counted.get(tenant, 0), **table.get(tenant, {}))
            for tenant in table.keys() | counted.keys()
        ]
        return sorted(found, key=lambda each: (-each.bytes, each.tenant))

    def counted(self) -> dict[str, int]:
        """What was written since the last look, by tenant."""
        found: dict[bytes, bytes] = self._call("HGETALL", self._counts)
        return {str(tenant, "utf-8"): int(count) for tenant, count in found.items()}

    def write(self, found: Found, before: dict[str, int]) -> None:
        """What a look has found; `before` was counted when it began."""
        tenants = found.inputs.keys() | found.results.keys()
        for tenant in self._table.all().keys() - tenants:
            self._table.remove(tenant)
        self._table.put(
            {tenant: {"inputs": found.inputs[tenant], "results": found.results[tenant]} for tenant in tenants}
        )
        for tenant, count in before.items():
            if int(self._call("HINCRBY", self._counts, tenant, -count)) <= 0:
                self._call("HDEL", self._counts, tenant)
