"""Waiting for Redis while a worker starts."""

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from img2img_shared.errors import Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

#: seconds between two tries
PATIENCE = 2.0


def when_redis_answers(ask: Callable[[], T]) -> T:
    """The result of `ask`, retried until Redis answers: machines of a farm start in any order."""
    while True:
        try:
            return ask()
        except Unavailable as error:
            log.warning("%s; trying again", error)
            threading.Event().wait(PATIENCE)
