"""What people do to a farm's jobs and workers."""

import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from img2img_shared.errors import NotFound, Unavailable
from img2img_shared.farm.connection import FarmConnection
from img2img_shared.farm.patience import patiently
from img2img_shared.ledger.answers import Answer
from img2img_shared.queue import top_up
from img2img_shared.records import WorkerOrder

log = logging.getLogger(__name__)

T = TypeVar("T")


class JobControl(FarmConnection):
    """Changes to jobs and workers, in the ledger and beyond. `by` says who makes them, for the audit.

    Repeated with the same idempotency key `once` within ten minutes, each takes effect once and returns the
    same. While Redis is away, each is retried for as long as a submit would be.

    Methods raise `NotFound` if the tenant has no such job.
    """

    def cancel(self, job_id: str, tenant: str, by: str, once: str | None = None) -> int:
        """End a job; returns how many images will therefore not be rendered."""
        return self._once(once, lambda key: self.ledger.cancel(job_id, tenant, by, key))

    def pause(self, job_id: str, tenant: str, by: str, once: str | None = None) -> bool:
        """Start no more of its images until `resume`; returns whether that changed anything."""
        return self._once(once, lambda key: self.ledger.pause(job_id, tenant, by, key))

    def resume(self, job_id: str, tenant: str, by: str, once: str | None = None) -> bool:
        """Continue a paused job; returns whether that changed anything."""
        changed = self._once(once, lambda key: self.ledger.resume(job_id, tenant, by, key))
        self._notify_workers_of(job_id, tenant)
        return changed

    def retry(self, job_id: str, tenant: str, by: str, once: str | None = None) -> int:
        """Render its failed images again; returns how many these are."""
        count = self._once(once, lambda key: self.ledger.retry(job_id, tenant, by, key))
        self._notify_workers_of(job_id, tenant)
        return count

    def set_priority(self, job_id: str, tenant: str, priority: int, by: str, once: str | None = None) -> bool:
        """Change its priority; returns whether that changed anything."""
        return self._once(once, lambda key: self.ledger.set_priority(job_id, tenant, priority, by, key))

    def set_keep(
        self, job_id: str, tenant: str, keep: float | None, by: str, once: str | None = None
    ) -> None:
        """Keep its results for so many seconds after its end; None: forever."""
        self._once(once, lambda key: self.ledger.set_keep(job_id, tenant, keep, by, key))

    def remove(self, job_id: str, tenant: str, by: str, once: str | None = None) -> int:
        """Remove a job that has ended, with its results; returns how many objects were removed from the
        store.

        Its inputs belong to the tenant: the janitor removes those that no other job names. If the store fails
        halfway, the janitor removes the rest.

        Raises:
            Refused: the job has not ended.
            StoreError: the store failed to remove something.
        """
        key = once or secrets.token_hex(8)
        self._once(key, lambda key: self.ledger.remove(job_id, tenant, by, key))
        count = self.store.delete_all(f"jobs/{job_id}")
        return self._once(key, lambda key: self.ledger.count_removed(job_id, tenant, key, count))

    def order(self, worker: str, order: WorkerOrder | None, by: str, once: str | None = None) -> list[str]:
        """Give a worker, or all workers of a host, an order, from their next beat on; returns their ids.

        Raises:
            NotFound: none of them is alive.
        """
        answer = Answer(self.redis, "order", worker, once or secrets.token_hex(8))
        if (before := answer.given()) is not None:  # by now it may have ended, as it was told
            return [str(each) for each in before]
        ids = [each.info.id for each in self.workers()]
        # an id begins with its host, then the process' number
        wanted = [each for each in ids if each == worker or each.rsplit("-", 2)[0] == worker]
        found = [each for each in wanted if self.ledger.order(each, order, by)]
        if not found:
            raise NotFound(f"no worker {worker!r} lives; see img2img workers")
        answer.give(found)
        return found

    def notify_workers(self, model: str) -> None:
        """Queue tickets for waiting images.

        Errors do not matter: the images are in the ledger, and the workers' janitor will queue tickets.
        """
        try:
            top_up(self.tickets, self.ledger, model)
        except Exception as error:
            log.warning("the tickets for %s come a second later: %s", model, error)

    def _once(self, once: str | None, call: Callable[[str], T]) -> T:
        key = once or secrets.token_hex(8)
        return patiently(lambda: call(key), self._outage)

    def _notify_workers_of(self, job_id: str, tenant: str) -> None:
        with suppress(Unavailable):  # the workers' janitor comes a second later
            self.notify_workers(self.ledger.status(job_id, tenant).model)
