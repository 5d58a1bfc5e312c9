"""What keeps requests and rounds from their work, in the gateway's log: answers do not say where it is."""

import logging
import time
from collections.abc import Callable

from img2img_gateway.gateway_errors import Problem
from img2img_shared.errors import FarmError, NoWorkers, StoreError, Unavailable, one_line

log = logging.getLogger(__name__)

#: seconds after which the same cause is told again
AGAIN = 60.0


class FaultLog:
    """Logs faults of Redis and of the store, each cause once in a while."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}

    def tell(self, method: str, path: str, error: Exception) -> None:
        """A request could not be answered for this error; a fault's message ends with its cause."""
        if not isinstance(error, StoreError | Unavailable) or isinstance(error, NoWorkers):
            return
        now = self._clock()
        self._told = {cause: at for cause, at in self._told.items() if now < at + AGAIN}
        cause = str(error).rpartition(": ")[2]
        if cause not in self._told:
            self._told[cause] = now
            log.warning("%s %s cannot be answered: %s", method, one_line(path), error)

    def tell_late(self, method: str, path: str, error: Exception) -> None:
        """Like `tell`, for an answer that had begun: nobody else logs what was unforeseen."""
        if not isinstance(error, FarmError | Problem):
            log.error("%s %s cannot be answered", method, one_line(path), exc_info=error)
        self.tell(method, path, error)


class RoundLog:
    """Logs what keeps a task from its rounds once, and that it goes on: an outage has thousands of rounds.

    Args:
        subject: what waits meanwhile, in the plural.
    """

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._told = ""

    def waits(self, error: FarmError) -> None:
        """A round failed."""
        if str(error) != self._told:
            log.warning("%s wait: %s", self._subject, error)
        self._told = str(error)

    def goes_on(self) -> None:
        """A round was done."""
        if self._told:
            log.warning("%s go on", self._subject)
        self._told = ""
