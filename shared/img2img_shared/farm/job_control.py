"""What people do to jobs and workers of a farm, in their name."""

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
    """What the ledger does, and what follows from it. `by` is who does it, for the audit.

    Asked for again with the same idempotency key `once` within ten minutes, each takes effect once and gives
    the same. While Redis is away, each is asked again as long as a submit would be.

    Methods raise `NotFound` where the tenant has no such job.
    """

    def cancel(self, job_id: str, tenant: str, by: str, once: str | None = None) -> int:
        """End a job; how many images are thereby not rendered."""
        return self._once(once, lambda key: self.ledger.cancel(job_id, tenant, by, key))

    def pause(self, job_id: str, tenant: str, by: str, once: str | None = None) -> bool:
        """Begin none of its images until `resume`; whether that changed anything."""
        return self._once(once, lambda key: self.ledger.pause(job_id, tenant, by, key))

    def resume(self, job_id: str, tenant: str, by: str, once: str | None = None) -> bool:
        """Go on with a paused job; whether that changed anything."""
        changed = self._once(once, lambda key: self.ledger.resume(job_id, tenant, by, key))
        self._notify_workers_of(job_id, tenant)
        return changed

    def retry(self, job_id: str, tenant: str, by: str, once: str | None = None) -> int:
        """Give its failed images another chance; how many these are."""
        count = self._once(once, lambda key: self.ledger.retry(job_id, tenant, by, key))
        self._notify_workers_of(job_id, tenant)
        return count

    def set_priority(self, job_id: str, tenant: str, priority: int, by: str, once: str | None = None) -> bool:
        """Let it go before those of lower priority; whether that changed anything."""
        return self._once(once, lambda key: self.ledger.set_priority(job_id, tenant, priority, by, key))

    def set_keep(
        self, job_id: str, tenant: str, keep: float | None, by: str, once: str | None = None
    ) -> None:
        """Keep its results so many seconds after its end; None: for ever."""
        self._once(once, lambda key: self.ledger.set_keep(job_id, tenant, keep, by, key))

    def remove(self, job_id: str, tenant: str, by: str, once: str | None = None) -> int:
        """Forgets a job that has ended, with its results; how many objects of the store these were.

        Pictures that it was made from are the tenant's: the janitor removes those that no other job names.
        Should the store fail in between, the janitor removes the rest.

        Raises:
            Refused: the job has not ended.
            StoreError: the store does not remove something.
        """
        key = once or secrets.token_hex(8)
        self._once(key, lambda key: self.ledger.remove(job_id, tenant, by, key))
        count = self.store.delete_all(f"jobs/{job_id}")
        return self._once(key, lambda key: self.ledger.count_removed(job_id, tenant, key, count))

    def order(self, worker: str, order: WorkerOrder | None, by: str, once: str | None = None) -> list[str]:
        """Have a worker, or all of a host's, do something from the next beat on; who it is.

        Raises:
            NotFound: none of them lives.
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
        """Tickets for images that wait.

        Whatever goes wrong with them, what they are for is written: the workers' janitor brings them.
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
