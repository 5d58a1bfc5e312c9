"""Work in short steps, between which others have theirs."""

from collections.abc import Generator
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Mark(Protocol):
    """What a device passes when it has done all that it was given before."""

    def query(self) -> bool:
        """Whether it has."""

    def synchronize(self) -> None:
        """Returns when it has."""


#: yields between its steps, None or a `Mark` that the next one is to wait for, and returns what it has made
Steps = Generator[Any, None, T]


def at_once(made: T) -> Steps[T]:
    """The steps of what takes none."""
    yield from ()
    return made


def finished(steps: Steps[T]) -> T:
    """What they make, all of them done at once."""
    while True:
        try:
            awaited: Mark | None = next(steps)
        except StopIteration as end:
            made: T = end.value
            return made
        if awaited is not None:
            awaited.synchronize()


def passed(device: torch.device) -> Steps[None]:
    """Nothing but to wait for all that the current stream was given so far."""
    if device.type != "cuda":
        return
    mark = torch.Event(device)
    mark.record()
    while not mark.query():
        yield mark


def known(flag: Tensor) -> Steps[bool]:
    """What a bool [] on a device is."""
    host = torch.empty((), dtype=torch.bool, pin_memory=flag.is_cuda)
    host.copy_(flag, non_blocking=True)
    yield from passed(flag.device)
    return bool(host)
