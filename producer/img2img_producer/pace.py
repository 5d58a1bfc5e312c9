"""Estimates when a job will have ended from its observed progress, if that can be told at all."""

from collections import deque
from itertools import pairwise
from math import sqrt
from statistics import mean, stdev

#: seconds of the past that count
WINDOW = 60.0
#: seconds that must have been seen
LEAST = 4.0
#: stretches of equal length that the past is cut into: as they differ, so may the future
PARTS = 4


class Pace:
    """Observes a job's progress repeatedly, and estimates how long the rest will take.

    >>> pace = Pace()
    >>> for second in range(9):
    ...     pace.see(second, 0.5 * second)
    >>> pace.to_go(6.0)
    (12.0, 12.0)
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()

    def see(self, now: float, progress: float) -> None:
        """Observe: at `now`, in seconds, so many images were done, counting fractions of those under way."""
        if self._seen:
            if progress <= self._seen[-1][1] - 1:  # some are rendered anew
                self._seen.clear()
            else:  # what is told of steps may lag behind
                progress = max(progress, self._seen[-1][1])
        self._seen.append((now, progress))
        while now - self._seen[0][0] > WINDOW:
            self._seen.popleft()

    def forget(self) -> None:
        """Forget earlier observations: the job has stopped, and they do not say when it will continue."""
        self._seen.clear()

    def to_go(self, left: float) -> tuple[float, float] | None:
        """Seconds for `left` images, at least and at most, by two standard errors; None: unknown."""
        if not self._seen or self._seen[-1][0] - self._seen[0][0] < LEAST:
            return None
        start, end = self._seen[0][0], self._seen[-1][0]
        length = (end - start) / PARTS
        marks = [self._at(start + part * length) for part in range(PARTS + 1)]
        rates = [(after - before) / length for before, after in pairwise(marks)]
        rate, error = mean(rates), 2 * stdev(rates) / sqrt(PARTS)
        if error >= rate / 2:
            return None
        return left / (rate + error), left / (rate - error)

    def _at(self, moment: float) -> float:
        """The progress at a moment, interpolated between observations."""
        before = after = self._seen[0]
        for after in self._seen:
            if after[0] >= moment:
                break
            before = after
        if after[0] == before[0]:
            return after[1]
        share = min(1.0, (moment - before[0]) / (after[0] - before[0]))
        return before[1] + share * (after[1] - before[1])
