"""Waiting for a farm that does not answer, and for other threads, in a way that Ctrl-C can interrupt."""

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
    """The result of `ask`, retried while the farm does not answer: an overnight watch survives its restart.

    The log says once that it waits; unless logging is configured, Python shows that on standard error.

    Args:
        outage: seconds until it gives up; 0: `ask` is called once.

    Raises:
        Unavailable: the farm did not answer in time.
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

    During one long wait Ctrl-C can be missed: Python does not notice a signal that comes just before it
    begins.
    """
    while not wait([future], TURN).done:
        pass
    return future.result()
