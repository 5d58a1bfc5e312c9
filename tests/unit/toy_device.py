"""A device that is behind the engine, and goes on when a test says so."""

import threading

from img2img_worker.engine.pace import Pace
from img2img_worker.models.steps import Mark


class ToyDevice:
    """Does what it is given one after the other, by a clock of its own, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        #: when it will have done what it has
        self.free = 0.0
        #: what the clock goes on by whenever somebody looks at it
        self.ticks = 0.0
        #: set once somebody has looked at it ten times and it stood still
        self.stood_still = threading.Event()
        self._looks = 0
        self.pace = Pace(self.record, self.clock)

    def clock(self) -> float:
        self.now += self.ticks
        self._looks = 0 if self.ticks else self._looks + 1
        if self._looks >= 10:
            self.stood_still.set()
        return self.now

    def give(self, seconds: float) -> None:
        """It has work for so long."""
        self.free = max(self.free, self.now) + seconds

    def record(self) -> Mark:
        return _Done(self, self.free)


class _Done:
    def __init__(self, device: ToyDevice, at: float) -> None:
        self._device, self._at = device, at

    def query(self) -> bool:
        return self._device.now >= self._at

    def synchronize(self) -> None:
        self._device.now = max(self._device.now, self._at)


class ToyMark:
    """A mark that a test passes."""

    def __init__(self, asked: int = 1) -> None:
        self.passed = threading.Event()
        #: set once it was asked that often
        self.was_asked = threading.Event()
        self._asked = asked

    def query(self) -> bool:
        self._asked -= 1
        if self._asked <= 0:
            self.was_asked.set()
        return self.passed.is_set()

    def synchronize(self) -> None:
        self.passed.wait()
