"""The interface to the operator's calls, whichever way the farm is reached."""

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
    """The operator's calls. Its methods raise `Unavailable` and `StoreError`."""

    def clean(self, kept: dict[str, float | None], *, dry_run: bool) -> Cleaned:
        """Like `StoreJanitor.clean`; `kept` may have "uploads" and "orphans", overriding the settings."""

    def storage(self) -> list[TenantStorage]:
        """Like `Storage.all`."""

    def audit(self, subject: str | None) -> Iterator[AuditLine]:
        """Like `Audit.lines`, for all tenants."""

    def orphans(self) -> Iterator[Orphan]:
        """Like `find_orphans`."""

    def order(self, worker: str, order: WorkerOrder | None) -> list[str]:
        """Like `FarmService.order`."""


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
