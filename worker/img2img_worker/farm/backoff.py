"""Pauses of a worker that has trouble, though no image is to blame, so that other workers go first."""

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
    """How long a worker claims nothing after trouble: one that fails at once would get most of the work.

    Args:
        stopping: set when the worker ends, which ends any pause.
        longest: seconds.
    """

    def __init__(self, stopping: threading.Event, longest: float) -> None:
        self._stopping = stopping
        self._longest = longest
        self._troubles = 0
        self._until = 0.0

    def take(self) -> None:
        """Wait until the pause is over."""
        while (left := self._until - time.monotonic()) > 0 and not self._stopping.wait(left):
            pass

    def prolong(self) -> None:
        """Note trouble, which makes the next pause longer."""
        self._until = time.monotonic() + min(FIRST_REST * 2**self._troubles, self._longest)
        self._troubles = min(self._troubles + 1, 16)

    def end(self) -> None:
        """Note that an image was finished: the next pause will be short again."""
        self._troubles = 0


def pause_before(tries: int, longest: float) -> float:
    """Seconds before a retry of what failed `tries` times: 1, 2, 4, ... up to `longest`, less up to half.

    So what failed everywhere at once is not retried everywhere at once.
    """
    return min(2.0 ** min(tries, 16), longest) * random.uniform(0.5, 1)


def shortage(error: Exception) -> str | None:
    """What the host or the device is short of, if `error` says so in any library's words."""
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
