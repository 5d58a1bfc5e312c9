"""A job's event stream, read to its end and waited for, across an outage of Redis."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from img2img_shared.errors import Unavailable
from img2img_shared.ledger import Ledger
from img2img_shared.records import Event

log = logging.getLogger(__name__)

#: seconds for which Redis may be away before a watcher gives up
OUTAGE = 120.0
#: seconds after which somebody who submits would rather know
SUBMIT = 25.0

T = TypeVar("T")


class Feed:
    """What happens to a job from now on.

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
        """The next events, oldest first, some hundreds at most; none if none came within `wait` seconds."""
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


def patiently(ask: Callable[[], T], outage: float = OUTAGE) -> T:
    """What `ask` gives, asked again while Redis is away: an overnight watch outlives its restart.

    The log says once that it waits, which without further ado Python shows on standard error.

    Args:
        outage: seconds until it gives up.

    Raises:
        Unavailable: it stays away.
    """
    end = time.monotonic() + outage
    waits = False
    while True:
        try:
            answer = ask()
        except Unavailable as error:
            if time.monotonic() > end:
                raise
            if not waits:
                log.warning("%s; trying again for %.0f s", error, outage)
            waits = True
            time.sleep(1.0)
        else:
            if waits:
                log.warning("Redis answers again")
            return answer
