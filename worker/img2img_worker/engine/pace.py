"""How far the engine may be ahead of its device."""

from collections import deque
from collections.abc import Callable

import torch


class Pace:
    """Keeps the engine at most two steps ahead of the device, so that cancelling and joining stay prompt."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: deque[Callable[[], None]] = deque()

    def keep(self) -> None:
        """After each step: waits until the device has done the step before the last."""
        self._marks.append(mark(self._device))
        if len(self._marks) > 2:
            self._marks.popleft()()


def mark(device: torch.device) -> Callable[[], None]:
    """What waits until the device has done all that it was given so far."""
    if device.type != "cuda":
        return lambda: None
    event = torch.Event(device)
    event.record()
    return event.synchronize
