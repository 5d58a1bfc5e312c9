"""The operator's calls, through a farm's gateway."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any
from urllib.parse import quote

from pydantic import TypeAdapter

from img2img_producer.backends.gateway_client import GatewayClient
from img2img_shared.durations import write_duration
from img2img_shared.errors import Refused
from img2img_shared.farm.orphans import Orphan
from img2img_shared.farm.storage import TenantStorage
from img2img_shared.farm.store_janitor import Cleaned
from img2img_shared.ledger.audit import AuditLine
from img2img_shared.records import WorkerOrder

#: seconds within which a whole store is looked through
_LOOK = 3600.0
#: lines of the audit that one answer has
_LINES = 1000
_AUDIT = TypeAdapter(list[AuditLine])
_ORPHANS = TypeAdapter(list[Orphan])
_CLEANED = TypeAdapter(Cleaned)


class GatewayOperator:
    """An `OperatorBackend` over ``/v1``, for keys with the role operate; others see their own tenant."""

    def __init__(self, client: GatewayClient) -> None:
        self._client = client

    def clean(self, kept: dict[str, float | None], *, dry_run: bool) -> Cleaned:
        wanted = {name: write_duration(seconds) for name, seconds in kept.items()}
        body = {**wanted, "dry_run": dry_run}
        answer = self._client.ask("POST", "/v1/clean", json=body, timeout=_LOOK)
        return _CLEANED.validate_python(answer.json())

    def storage(self) -> list[TenantStorage]:
        names = [each.name for each in fields(TenantStorage)]
        found: list[dict[str, Any]] = self._client.ask("GET", "/v1/storage").json()
        return [TenantStorage(**{name: each[name] for name in names}) for each in found]

    def audit(self, subject: str | None) -> Iterator[AuditLine]:
        query = {"limit": str(_LINES)} | ({} if subject is None else {"subject": subject})
        yield from _AUDIT.validate_python(self._client.ask("GET", "/v1/audit", params=query).json())

    def orphans(self) -> Iterator[Orphan]:
        found = self._client.ask("GET", "/v1/orphans", timeout=_LOOK).json()
        yield from _ORPHANS.validate_python(found["orphans"])
        if found["more"]:
            reason = "there are more than a gateway lists at a time; name the farm's Redis and store for all"
            raise Refused("farm_url", self._client.where, reason)

    def order(self, worker: str, order: WorkerOrder | None) -> list[str]:
        path = f"/v1/workers/{quote(worker, safe='')}/order"
        told: list[str] = self._client.ask("PUT", path, json={"order": order}).json()["workers"]
        return told
