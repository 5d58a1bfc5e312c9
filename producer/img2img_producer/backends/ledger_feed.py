"""A job's event stream, which survives an outage of Redis."""

from img2img_shared.farm.patience import patiently
from img2img_shared.ledger import Ledger
from img2img_shared.records import Event


class LedgerFeed:
    """The events of a job from now on.

    Raises:
        NotFound: the tenant has no such job.
    """

    def __init__(self, ledger: Ledger, job_id: str, tenant: str) -> None:
        self._ledger = ledger
        self._job_id = job_id
        self._tenant = tenant
        self._after = "0"
        while self.next(0.0):
            pass  # to the end of the stream: whoever asks the ledger after this knows all that it said

    def next(self, wait: float) -> list[Event]:
        """The next events, oldest first, at most some hundreds; none if none came within `wait` seconds."""
        after = self._after
        events = patiently(lambda: self._ledger.events(self._job_id, self._tenant, after, wait))
        if events:
            self._after = events[-1].id
        return events

    def all(self, wait: float) -> list[Event]:
        """All events there are, after waiting up to `wait` seconds for the first."""
        found = more = self.next(wait)
        while more:
            more = self.next(0.0)
            found = found + more
        return found
