"""Ends a worker whose device no longer works: only a new process can use it again."""

import logging
import os
from typing import NoReturn

log = logging.getLogger(__name__)

#: exit status
BROKEN = 70


def end_broken(error: Exception) -> NoReturn:
    """End the process without putting anything back: an image in flight may be to blame."""
    log.critical("the device or the engine is broken, this worker ends", exc_info=error)
    logging.shutdown()
    os._exit(BROKEN)
