"""What is asked again while Redis is away."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from img2img_shared.errors import Unavailable

log = logging.getLogger(__name__)

#: seconds for which Redis may be away before a watcher gives up
OUTAGE = 120.0

T = TypeVar("T")


def patiently(ask: Callable[[], T], outage: float = OUTAGE) -> T:
    """What `ask` gives, asked again while Redis is away: an overnight watch outlives its restart.

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
                log.warning("Redis answers again")
            return answer
