"""A Brownian path over a run's sigmas, whose values do not depend on the order in which they are computed.

Each value follows from its place in a tree of halved intervals. It is the path of ``torchsde.BrownianTree``
bit for bit, on either noise source, which A1111 gets by replacing a function inside torchsde.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from torch import Tensor

#: (seed, shape) -> standard normal float32 noise: the first draw of that seed
Randn = Callable[[int, tuple[int, ...]], Tensor]

#: digits to which times are rounded: torchsde's tolerance of 1e-6
DIGITS = 6
POOL_SIZE = 24
#: most intervals that are cached: about two paths from the root to a leaf
REMEMBERED = 64


@dataclass(frozen=True, kw_only=True)
class _Interval:
    """One node of the tree: the `key`-th interval at its depth."""

    start: float
    end: float
    key: int
    depth: int
    #: the path's increment over it
    rise: Tensor


class BrownianPath:
    """Standard Brownian motion between two sigmas, of a latent's shape.

    Source: k-diffusion's ``BrownianTreeNoiseSampler``, seeded by the image's seed as in A1111.
    """

    def __init__(self, seed: int, span: tuple[float, float], shape: tuple[int, ...], randn: Randn) -> None:
        low, high = (_single(sigma) for sigma in span)
        self._seed, self._shape, self._randn = seed, shape, randn
        first = int(np.random.SeedSequence(entropy=seed, pool_size=POOL_SIZE).generate_state(1)[0])
        rise = randn(first, shape) * sqrt(high - low)
        self._top = _Interval(start=_rounded(low), end=_rounded(high), key=0, depth=0, rise=rise)
        self._remembered: OrderedDict[tuple[int, int], tuple[_Interval, _Interval]] = OrderedDict()

    def noise(self, sigma: float, sigma_next: float) -> Tensor:
        """The path's change from `sigma` down to `sigma_next`, scaled to variance 1: float32."""
        high, low = _single(sigma), _single(sigma_next)
        pieces = self._pieces(self._top, self._place(low), self._place(high))
        return -sum(pieces, torch.zeros(self._shape)) / sqrt(high - low)

    def _place(self, sigma: float) -> float:
        return min(max(_rounded(sigma), self._top.start), self._top.end)

    def _pieces(self, interval: _Interval, low: float, high: float) -> Iterator[Tensor]:
        """Increments of the intervals that make up [low, high], in order."""
        if low >= high:
            return
        if low <= interval.start and high >= interval.end:
            yield interval.rise
            return
        left, right = self._halves(interval)
        if low < left.end:
            yield from self._pieces(left, low, min(high, left.end))
        if high > left.end:
            yield from self._pieces(right, max(low, left.end), high)

    def _halves(self, interval: _Interval) -> tuple[_Interval, _Interval]:
        """Left and right half; the left's increment is drawn given the whole's (a Brownian bridge)."""
        name = (interval.depth, interval.key)
        if name in self._remembered:
            self._remembered.move_to_end(name)
            return self._remembered[name]
        start, end, key, depth = interval.start, interval.end, 2 * interval.key, interval.depth + 1
        middle = _rounded(0.5 * (end + start))
        before, after, share = middle - start, end - middle, 1 / (end - start)
        fresh = self._randn(self._bridge_seed(interval), self._shape)
        left = before * interval.rise * share + sqrt(before * after * share) * fresh
        halves = (
            _Interval(start=start, end=middle, key=key, depth=depth, rise=left),
            _Interval(start=middle, end=end, key=key + 1, depth=depth, rise=interval.rise - left),
        )
        self._remembered[name] = halves
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return halves

    def _bridge_seed(self, interval: _Interval) -> int:
        place = (interval.key, interval.depth)
        sequence = np.random.SeedSequence(entropy=self._seed, spawn_key=place, pool_size=POOL_SIZE)
        return int(sequence.generate_state(1)[0])


def _single(sigma: float) -> float:
    """The nearest single-precision number, as A1111 uses: the path differs at the nearest other number."""
    return float(np.float32(sigma))


def _rounded(time: float) -> float:
    return round(time, DIGITS)
