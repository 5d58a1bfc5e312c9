"""Assembles bodies from maps of parts and limbs, by part affinity fields (Cao et al. 2017).

Constants and order are those of sd-webui-controlnet: its control pictures depend on them.
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
#: the last two, from shoulders to ears, do not start a body
_LIMBS = (*BODY_LIMBS, (2, 16), (5, 17))
#: for each limb the channel of its direction's x; that of y follows
_DIRECTIONS = (12, 20, 14, 16, 22, 24, 0, 2, 4, 6, 8, 10, 28, 30, 34, 32, 36, 18, 26)
#: standard deviation by which a part's map is smoothed, in pixels
_SIGMA = 3
#: confidence above which a place may be a part; dot product above which a direction fits a limb at a point
_PART, _FIT = 0.1, 0.05
#: points that are sampled on a limb; the direction has to fit at more than this many of them
_POINTS, _FITTING = 10, 8
#: least of a body
_FEWEST_PARTS, _LOWEST_SCORE = 4, 0.4


class Peak(NamedTuple):
    """Where a part may be, in pixels."""

    x: int
    y: int
    confidence: float


class _Limb(NamedTuple):
    """A connection of two peaks, given by their numbers among the peaks of their parts."""

    start: int
    end: int
    score: float


@dataclass
class _Body:
    #: the number of each part's peak
    parts: dict[int, int]
    score: float
    #: of parts, where one that a later limb replaces counts again
    count: int


def bodies(confidences: Maps, directions: Maps) -> list[list[Peak | None]]:
    """For each body that is found, its 18 parts; None: a part that is not seen.

    Args:
        confidences: [H, W, parts], from 0 to 1.
        directions: [H, W, 2 for each limb].
    """
    # in double precision one by one: a large picture's together would take gigabytes
    peaks = [_peaks(confidences[:, :, part].astype(np.float64)) for part in range(PARTS)]
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
                met[0].score += end.confidence + limb.score
                met[0].count += 1
            elif not met and (first, second) in BODY_LIMBS:
                parts = {first: limb.start, second: limb.end}
                found.append(_Body(parts, start.confidence + end.confidence + limb.score, 2))
    return [
        [peaks[part][body.parts[part]] if part in body.parts else None for part in range(PARTS)]
        for body in found
        if body.count >= _FEWEST_PARTS and body.score / body.count >= _LOWEST_SCORE
    ]


def _peaks(confidence: Map) -> list[Peak]:
    """The local maxima of a smoothed map [H, W], row by row."""
    from scipy.ndimage import gaussian_filter  # imported here: it takes a fifth of a second

    smooth = gaussian_filter(confidence, sigma=_SIGMA)
    around = np.pad(smooth, 1)
    neighbours = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
    highest = np.logical_and.reduce([smooth >= each for each in neighbours])
    rows, columns = np.nonzero(highest & (smooth > _PART))
    return [Peak(int(x), int(y), float(confidence[y, x])) for y, x in zip(rows, columns, strict=True)]


def _limbs(starts: Sequence[Peak], ends: Sequence[Peak], directions: Map) -> list[_Limb]:
    """The best limbs, of which no two share an end; best first."""
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
    """Numbers and scores of the `targets` [n, 2] to which the directions lead from `start`."""
    origin = np.array((start.x, start.y), np.float64)
    gaps = targets - origin
    lengths = np.maximum(np.hypot(gaps[:, 0], gaps[:, 1]), 0.001)
    along = np.rint(np.linspace(np.broadcast_to(origin, targets.shape), targets, _POINTS)).astype(int)
    fits = np.sum(directions[along[:, :, 1], along[:, :, 0]] * (gaps / lengths[:, None]), axis=2)
    # longer than half of the picture's height: less likely
    scores = fits.mean(axis=0) + np.minimum(0.5 * directions.shape[0] / lengths - 1, 0)
    likely = (np.count_nonzero(fits > _FIT, axis=0) > _FITTING) & (scores > 0)
    return [(int(number), float(scores[number])) for number in np.flatnonzero(likely)]
