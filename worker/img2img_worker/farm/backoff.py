"""What keeps a worker from rendering, though no image is to blame: and that it then lets others go first."""

import errno
import random
import re
import threading
import time

import cv2
import torch

#: seconds of rest after the first trouble; it doubles with each that follows
FIRST_REST = 0.5


class Backoff:
    """How long a worker claims nothing after trouble: else one that fails at once would get most of the work.

    Args:
        stopping: set when the worker ends, which ends any rest.
        longest: seconds.
    """

    def __init__(self, stopping: threading.Event, longest: float) -> None:
        self._stopping = stopping
        self._longest = longest
        self._troubles = 0
        self._until = 0.0

    def take(self) -> None:
        """Returns when the rest is over."""
        while (left := self._until - time.monotonic()) > 0 and not self._stopping.wait(left):
            pass

    def prolong(self) -> None:
        """There was trouble."""
        self._until = time.monotonic() + min(FIRST_REST * 2**self._troubles, self._longest)
        self._troubles = min(self._troubles + 1, 16)

    def end(self) -> None:
        """An image was finished: what the next trouble costs is little again."""
        self._troubles = 0


def pause_before(tries: int, longest: float) -> float:
    """Seconds before what failed `tries` times is tried again: 1, 2, 4, ... to `longest`, less up to a half.

    So what failed everywhere at once is not tried everywhere at once.
    """
    return min(2.0 ** min(tries, 16), longest) * random.uniform(0.5, 1)


def shortage(error: Exception) -> str | None:
    """What the host or the device is short of, where that is what `error` says in any library's words."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "out of memory"
    if isinstance(error, OSError) and error.errno in _SHORT:
        return "out of files" if error.errno in (errno.EMFILE, errno.ENFILE) else "out of memory"
    # torch's allocator of host memory, OpenCV's, and Python's threads
    if isinstance(error, RuntimeError | cv2.error) and _SHORTAGE.search(str(error)):
        return "out of memory"
    return None


_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
_SHORTAGE = re.compile("can't allocate memory|Insufficient memory|can't start new thread")
