"""What whoever operates a farm does with it, whichever way it is reached."""

from collections.abc import Iterator
from typing import Any, Protocol

from img2img_shared.farm.orphans import Orphan, find_orphans
from img2img_shared.farm.service import FarmService
from img2img_shared.farm.storage import TenantStorage
from img2img_shared.farm.store_janitor import Cleaned
from img2img_shared.ledger.audit import AuditLine
from img2img_shared.records import WorkerOrder
from img2img_shared.settings import Settings


class OperatorBackend(Protocol):
    """One way to do it. Its methods raise `Unavailable` and `StoreError`."""

    def clean(self, kept: dict[str, float | None], *, dry_run: bool) -> Cleaned:
        """As `StoreJanitor.clean`; `kept` may have its "uploads" and "orphans", in place of the settings'."""

    def storage(self) -> list[TenantStorage]:
        """As `Storage.all`."""

    def audit(self, subject: str | None) -> Iterator[AuditLine]:
        """As `Audit.lines`, of all tenants."""

    def orphans(self) -> Iterator[Orphan]:
        """As `find_orphans`."""

    def order(self, worker: str, order: WorkerOrder | None) -> list[str]:
        """As `FarmService.order`."""


class DirectOperator:
    """An `OperatorBackend` over the farm's service."""

    def __init__(self, service: FarmService, settings: Settings) -> None:
        self._service = service
        self._settings = settings

    def clean(self, kept: dict[str, float | None], *, dry_run: bool) -> Cleaned:
        settings: dict[str, Any] = {
            "uploads": self._settings.keep_uploads,
            "orphans": self._settings.keep_orphans,
        }
        return self._service.janitor.clean(**settings | kept, dry_run=dry_run)

    def storage(self) -> list[TenantStorage]:
        return self._service.storage.all()

    def audit(self, subject: str | None) -> Iterator[AuditLine]:
        return self._service.audit.lines(subject=subject)

    def orphans(self) -> Iterator[Orphan]:
        return find_orphans(self._service.store, self._service.retention)

    def order(self, worker: str, order: WorkerOrder | None) -> list[str]:
        return self._service.order(worker, order, self._settings.owner)
