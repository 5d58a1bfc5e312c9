"""Waits for what a test expects, by polling."""

import time
from collections.abc import Callable
from typing import Any

from img2img_shared.errors import Unavailable

#: seconds until a test gives up waiting; generous, since machines are slow at times
PATIENCE = 240.0


def eventually(what: str, check: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """What `check` returns as soon as it is true; fails the test after `patience` seconds.

    While a server does not answer, it is not true yet.

    Args:
        what: what is waited for, for the failure's message.
    """
    end = time.monotonic() + patience
    while True:
        try:
            found = check()
        except Unavailable:
            found = None
        if found:
            return found
        assert time.monotonic() < end, f"still not so after {patience} s: {what}"
        time.sleep(0.01)
