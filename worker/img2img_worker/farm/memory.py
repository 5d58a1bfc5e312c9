"""The memory that a worker uses, on the host and on its device."""

import resource
import sys
from pathlib import Path

import torch

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def resident() -> int:
    """Bytes of the host's memory that this process uses, or, if that is unknown, the most it ever did."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most
    return pages * resource.getpagesize()


def available() -> int:
    """Bytes of the host's memory that programs can still get; unlimited if the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return sys.maxsize


def on_device(device: torch.device) -> tuple[int, int]:
    """Bytes of the device's memory in use by anybody, and in all; (0, 0) for the host's own memory."""
    if device.type != "cuda":
        return 0, 0
    free, total = torch.cuda.mem_get_info(device)
    return total - free, total


def describe(device: torch.device) -> str:
    """Both, for people."""
    used, total = on_device(device)
    host = f"{in_words(resident())} of memory"
    return f"{host}, {in_words(used)} of {in_words(total)} on the device" if total else host


def in_words(size: int) -> str:
    """A number of bytes in a suitable unit.

    >>> in_words(5 * 2**30)
    '5.0 GiB'
    """
    value = float(size)
    for unit in _UNITS[:-1]:
        if value < 1000:
            return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} {_UNITS[-1]}"
