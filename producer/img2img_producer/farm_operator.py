"""The client's calls for the farm's operator: workers and store."""

from collections.abc import Iterator

from img2img_producer.backends.backend import Backend
from img2img_shared.durations import read_duration
from img2img_shared.farm.orphans import Orphan
from img2img_shared.farm.storage import TenantStorage
from img2img_shared.farm.store_janitor import Cleaned
from img2img_shared.ledger.audit import AuditLine
from img2img_shared.records import WorkerOrder, WorkerStatus


class FarmOperator:
    """The calls of a `Farm` that are not about one job."""

    _backend: Backend

    def workers(self) -> list[WorkerStatus]:
        """All live workers, whatever they serve."""
        return self._backend.workers()

    def order(self, worker: str, order: WorkerOrder | None) -> list[str]:
        """Have a worker drain or stop taking work from its next heartbeat on, some seconds from now.

        Args:
            worker: its id, or the name of its host, which means all workers there.
            order: None: take back what it was ordered.

        Returns:
            the ids of the workers that were given the order.

        Raises:
            NotFound: no such worker is alive.
        """
        return self._backend.operator.order(worker, order)

    def clean(
        self,
        *,
        uploads: str | float | None = None,
        orphans: str | float | None = None,
        dry_run: bool = False,
    ) -> Cleaned:
        """Remove from the store what nobody needs, now instead of at the farm's janitor's next round.

        Args:
            uploads: how long pictures stay that no job names; None: ``IMG2IMG_KEEP_UPLOADS``.
            orphans: how long jobs stay listed that only the store knows; None: ``IMG2IMG_KEEP_ORPHANS``.
            dry_run: remove nothing, and only tell what would be removed.

        Raises:
            Refused: another process is doing it.
        """
        given = {"uploads": uploads, "orphans": orphans}
        kept = {name: read_duration(value, name) for name, value in given.items() if value is not None}
        return self._backend.operator.clean(kept, dry_run=dry_run)

    def storage(self) -> list[TenantStorage]:
        """What each tenant has in the store, largest first; a key of the role submit sees its own tenant."""
        return self._backend.operator.storage()

    def audit(self, subject: str | None = None) -> Iterator[AuditLine]:
        """Who did what to the jobs and keys of all tenants, and to workers, newest first.

        Through a gateway these are the last thousand; a key of the role submit sees its own tenant.

        Args:
            subject: the id of a job, worker or key, to see what was done to it alone.
        """
        return self._backend.operator.audit(subject)

    def orphans(self) -> Iterator[Orphan]:
        """Jobs of any tenant that the store still holds, and the ledger has forgotten or lost."""
        return self._backend.operator.orphans()
