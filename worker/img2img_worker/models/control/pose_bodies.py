"""From maps of parts and limbs to bodies, by part affinity fields (Cao et al. 2017).

Numbers and order are those of sd-webui-controlnet, as its pictures depend on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from img2img_worker.pictures.control.poses import BODY_LIMBS

Map = NDArray[np.float64]
Maps = NDArray[np.float32]

PARTS = 18
#: those from shoulders to ears come last, and make no body by themselves
_LIMBS = (*BODY_LIMBS, (2, 16), (5, 17))
#: of each the channel of its direction's x, before that of y
_DIRECTIONS = (12, 20, 14, 16, 22, 24, 0, 2, 4, 6, 8, 10, 28, 30, 34, 32, 36, 18, 26)
#: in pixels, by which a map of a part is smoothed
_SIGMA = 3
#: share from which on a part may be somewhere; and how well a direction fits its limb at a point on it
_PART, _FIT = 0.1, 0.05
#: points on a limb that are looked at, and of how many more than that the direction must fit
_POINTS, _FITTING = 10, 8
#: of a body, at least
_FEWEST_PARTS, _LOWEST_SCORE = 4, 0.4


class Peak(NamedTuple):
    """Where a part may be, in pixels."""

    x: int
    y: int
    share: float


class _Limb(NamedTuple):
    """Between two peaks, by their numbers among those of their parts."""

    start: int
    end: int
    score: float


@dataclass
class _Body:
    #: the number of each part's peak
    parts: dict[int, int]
    score: float
    #: limbs are counted by their second part, as often as it is found
    count: int


def bodies(shares: Maps, directions: Maps) -> list[list[Peak | None]]:
    """The parts of each body that is found.

    Args:
        shares: [H, W, parts].
        directions: [H, W, 2 for each limb].
    """
    # in double precision one by one: all of a large picture's would take gigabytes
    peaks = [_peaks(shares[:, :, part].astype(np.float64)) for part in range(PARTS)]
    found: list[_Body] = []
    for (first, second), channel in zip(_LIMBS, _DIRECTIONS, strict=True):
        leading = directions[:, :, channel : channel + 2].astype(np.float64)
        limbs = _limbs(peaks[first], peaks[second], leading)
        for limb in limbs:
            start, end = peaks[first][limb.start], peaks[second][limb.end]
            met = [
                body
                for body in found
                if body.parts.get(first) == limb.start or body.parts.get(second) == limb.end
            ][:2]
            if len(met) == 2 and met[0].parts.keys().isdisjoint(met[1].parts):
                met[0].parts |= met[1].parts
                met[0].score += met[1].score + limb.score
                met[0].count += met[1].count
                found.remove(met[1])
            elif len(met) == 2 or (met and met[0].parts.get(second) != limb.end):
                met[0].parts[second] = limb.end
                met[0].score += end.share + limb.score
                met[0].count += 1
            elif not met and (first, second) in BODY_LIMBS:
                parts = {first: limb.start, second: limb.end}
                found.append(_Body(parts, start.share + end.share + limb.score, 2))
    return [
        [peaks[part][body.parts[part]] if part in body.parts else None for part in range(PARTS)]
        for body in found
        if body.count >= _FEWEST_PARTS and body.score / body.count >= _LOWEST_SCORE
    ]


def _peaks(share: Map) -> list[Peak]:
    """Where a map [H, W] is highest among its neighbours, row by row."""
    from scipy.ndimage import gaussian_filter  # a fifth of a second, which no other image needs to wait

    smooth = gaussian_filter(share, sigma=_SIGMA)
    around = np.pad(smooth, 1)
    neighbours = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
    highest = np.logical_and.reduce([smooth >= each for each in neighbours])
    rows, columns = np.nonzero(highest & (smooth > _PART))
    return [Peak(int(x), int(y), float(share[y, x])) for y, x in zip(rows, columns, strict=True)]


def _limbs(starts: Sequence[Peak], ends: Sequence[Peak], directions: Map) -> list[_Limb]:
    """The best ones of which no two share an end, best first."""
    if not starts or not ends:
        return []
    targets = np.array([(end.x, end.y) for end in ends], np.float64)
    candidates = [
        _Limb(number, end, score)
        for number, start in enumerate(starts)
        for end, score in _score(start, targets, directions)
    ]
    found: list[_Limb] = []
    for limb in sorted(candidates, key=lambda limb: limb.score, reverse=True):
        if all(limb.start != each.start and limb.end != each.end for each in found):
            found.append(limb)
    return found


def _score(start: Peak, targets: Map, directions: Map) -> list[tuple[int, float]]:
    """Those of `targets` [n, 2] to which the directions lead, by their numbers, and how well."""
    origin = np.array((start.x, start.y), np.float64)
    gaps = targets - origin
    lengths = np.maximum(np.hypot(gaps[:, 0], gaps[:, 1]), 0.001)
    along = np.rint(np.linspace(np.broadcast_to(origin, targets.shape), targets, _POINTS)).astype(int)
    fits = np.sum(directions[along[:, :, 1], along[:, :, 0]] * (gaps / lengths[:, None]), axis=2)
    # a limb longer than half of the picture's height is unlikely
    scores = fits.mean(axis=0) + np.minimum(0.5 * directions.shape[0] / lengths - 1, 0)
    likely = (np.count_nonzero(fits > _FIT, axis=0) > _FITTING) & (scores > 0)
    return [(int(number), float(scores[number])) for number in np.flatnonzero(likely)]
