"""Has the C library keep freed memory for the next layer, or return it to the system.

A layer's answers are given back as soon as the next layer has its own. By default glibc returns what is large
to the system each time, which hands it out again page by page, zeroed: 6% of the time that a picture of
256 × 256 pixels takes on a CPU with SD 1.5, and up to 15% with a small model (`bench/README.md`).
Another C library than glibc is left as it is.
"""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

#: parameters of mallopt(3), as glibc's malloc.h numbers them
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
#: bytes up to which a piece comes out of the heap, and those of the heap's end that stay with it
_KEPT_PIECE, _KEPT_END = 1 << 28, 1 << 30
#: while weights are loaded: the same of a piece that goes back to the system by itself
_SEPARATE = 1 << 20


def use_one_heap() -> None:
    """Have all threads share one heap without a limit: their own would end at 64 MiB. Call it before any."""
    _set(_ARENA_MAX, 1)


@contextmanager
def loading(*, keeps: bool) -> Iterator[None]:
    """A context for loading weights, whose memory leaves no holes; afterwards free memory goes to the system.

    Args:
        keeps: whether memory that is freed later is kept for the next allocation.
    """
    give_back()
    _set(_MMAP_THRESHOLD, _SEPARATE)
    _set(_TRIM_THRESHOLD, _SEPARATE)
    try:
        yield
    finally:
        give_back()
        if keeps:
            _set(_MMAP_THRESHOLD, _KEPT_PIECE)
            _set(_TRIM_THRESHOLD, _KEPT_END)


def give_back() -> None:
    """Return all free memory to the system."""
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _set(parameter: int, value: int) -> None:
    if _is_glibc():
        ctypes.CDLL(None).mallopt(parameter, value)


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
