"""Waiting: for a farm that is away, and for what other threads do, so that Ctrl-C is heard meanwhile."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from img2img_shared.errors import Unavailable

log = logging.getLogger(__name__)

#: seconds for which the farm may be away before a watcher gives up
OUTAGE = 120.0
#: seconds, at most, until Ctrl-C is heard
TURN = 0.2

T = TypeVar("T")


def patiently(ask: Callable[[], T], outage: float = OUTAGE) -> T:
    """What `ask` gives, asked again while the farm is away: an overnight watch outlives its restart.

    The log says once that it waits, which without further ado Python shows on standard error.

    Args:
        outage: seconds until it gives up; 0: it is asked once.

    Raises:
        Unavailable: it stays away.
    """
    end = time.monotonic() + outage
    waits = False
    while True:
        try:
            answer = ask()
        except Unavailable as error:
            if time.monotonic() >= end:
                raise
            if not waits:
                log.warning("%s; trying again for %.0f s", error, outage)
            waits = True
            time.sleep(1.0)
        else:
            if waits:
                log.warning("the farm answers again")
            return answer


def await_result(future: Future[T]) -> T:
    """The future's result, waited for in short turns.

    In one long wait Ctrl-C can go unheard: Python does not see a signal that comes just before it begins.
    """
    while not wait([future], TURN).done:
        pass
    return future.result()
