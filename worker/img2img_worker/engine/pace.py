"""When the engine gives its device the next step: shortly before the device has done what it has."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial

import torch

from img2img_worker.models.steps import Mark

#: steps that the device may have beside the one that is being launched, whatever they are expected to take
MOST = 2
#: what a device is to have left to do when given the next step: a share of its last one, or more, so many
#: seconds, which grow whenever it was done before the whole of the next was launched, and shrink by and by
SHARE, SPARE, GROWTH, SHRINKAGE = 0.2, 0.018, 1.5, 0.98
#: kinds of steps whose duration is remembered
KINDS = 256


@dataclass(kw_only=True)
class _Step:
    kind: Hashable
    mark: Mark
    #: when the device began with it, at the earliest
    began: float


class Pace:
    """Keeps the engine little ahead of its device, so that joining and cancelling are prompt, but ahead.

    How long the device will take for a step is expected by its kind: the least that any such step took so
    far, from the moment before which the device cannot have begun with it to the one when it was seen done.

    Args:
        record: gives a mark of all that the device was given so far; None: nothing is ever left to do.
        clock: seconds.
    """

    def __init__(
        self, record: Callable[[], Mark] | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._record = record
        self._clock = clock
        #: what the device has not done, the running one first
        self._steps: deque[_Step] = deque()
        self._least: OrderedDict[Hashable, float] = OrderedDict()
        self._spare = SPARE
        #: when it was last asked for the rest
        self._asked = clock()
        #: whether the device was left alone since the last step
        self._rested = False

    def __bool__(self) -> bool:
        """Whether the engine is ahead of a device at all."""
        return self._record is not None

    def launched(self, kind: Hashable) -> float:
        """Notes a step that was launched after the last `rest`; waits while the device has too many.

        Returns:
            the seconds that the device is expected to take; 0: not known.
        """
        if self._record is None:
            return 0.0
        self._steps.append(_Step(kind=kind, mark=self._record(), began=self._asked))
        self._look()
        was_late = self._rested and len(self._steps) == 1
        self._spare, self._rested = max(SPARE, self._spare * (GROWTH if was_late else SHRINKAGE)), False
        while len(self._steps) > MOST:
            self._steps[0].mark.synchronize()
            self._look()
        return self._expected(kind)

    def rest(self) -> float:
        """Seconds for which the device has enough to do without another step."""
        self._asked = self._clock()
        self._look()
        if not self._steps:
            return 0.0
        running, last = self._steps[0], self._expected(self._steps[-1].kind)
        left = max(0.0, running.began + self._expected(running.kind) - self._clock())
        left += sum(self._expected(step.kind) for step in list(self._steps)[1:])
        rest = max(0.0, left - max(self._spare, SHARE * last))
        self._rested = self._rested or rest > 0
        return rest

    def _look(self) -> None:
        """Takes note of the steps that are done by now."""
        now = self._clock()
        while self._steps and self._steps[0].mark.query():
            done = self._steps.popleft()
            self._learn(done.kind, self._clock() - done.began)
        if len(self._steps) > 1:
            self._steps[1].began = max(self._steps[1].began, now)

    def _learn(self, kind: Hashable, seconds: float) -> None:
        self._least[kind] = min(seconds, self._least.pop(kind, seconds))
        if len(self._least) > KINDS:
            self._least.popitem(last=False)

    def _expected(self, kind: Hashable) -> float:
        return self._least.get(kind, 0.0)


def marks(device: torch.device) -> Callable[[], Mark] | None:
    """What gives marks of all that a device was given so far; None: it has done it by then."""
    return partial(_record, device) if device.type == "cuda" else None


def mark(device: torch.device) -> Callable[[], None]:
    """What waits until the device has done all that it was given so far."""
    return _record(device).synchronize if device.type == "cuda" else lambda: None


def _record(device: torch.device) -> Mark:
    event = torch.Event(device)
    event.record()
    return event
