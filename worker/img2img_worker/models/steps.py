"""Work in short steps, as generators, so that other work can run between two steps."""

from collections.abc import Generator
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Mark(Protocol):
    """A point in a device's queue, as `torch.Event`: passed once all work before it is done."""

    def query(self) -> bool:
        """Whether it is passed."""

    def synchronize(self) -> None:
        """Wait until it is passed."""


#: yields between its steps (None, or a `Mark` for which the next step must wait), and returns a result
Steps = Generator[Any, None, T]


def without_steps(result: T) -> Steps[T]:
    """Work without steps: its result is there already."""
    yield from ()
    return result


def run_now(steps: Steps[T]) -> T:
    """Do all steps now, and return the result."""
    while True:
        try:
            awaited: Mark | None = next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        if awaited is not None:
            awaited.synchronize()


def wait_for_stream(device: torch.device) -> Steps[None]:
    """Wait, step by step, for all work that is now in the current stream."""
    if device.type != "cuda":
        return
    mark = torch.Event(device)
    mark.record()
    while not mark.query():
        yield mark


def read_flag(flag: Tensor) -> Steps[bool]:
    """The value of a bool tensor [] on a device, without blocking other work while it is copied."""
    host = torch.empty((), dtype=torch.bool, pin_memory=flag.is_cuda)
    host.copy_(flag, non_blocking=True)
    yield from wait_for_stream(flag.device)
    return bool(host)
