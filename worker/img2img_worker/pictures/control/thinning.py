"""Makes lines one pixel wide, so that edges stay thin when a drawing is scaled."""

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Values = TypeVar("Values", Pixels, NDArray[np.float32])

#: most rounds of thinning
_ROUNDS = 32
#: for `cv2.MORPH_HITMISS`: 1 must be there, -1 must not be; each in four directions
_BORDERS = (
    ((-1, -1, -1), (0, 1, 0), (1, 1, 1)),
    ((0, -1, -1), (1, 1, -1), (0, 1, 0)),
)
_SPURS = (
    ((-1, -1, -1), (-1, 1, -1), (0, 0, -1)),
    ((-1, -1, -1), (-1, 1, -1), (-1, 0, 0)),
)
#: neighbours along each of four directions
_LINES = (
    ((0, 0, 0), (1, 1, 1), (0, 0, 0)),
    ((0, 1, 0), (0, 1, 0), (0, 1, 0)),
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
)


def thin(lines: Pixels, *, prune: bool) -> Pixels:
    """White lines [H, W] on black, one pixel wide; with `prune`, without the spurs that scaling up makes."""
    found = lines.copy()
    borders = _in_four_directions(_BORDERS)
    for _ in range(_ROUNDS):
        if not _remove_hits(found, borders):
            break
    if prune:
        _remove_hits(found, _in_four_directions(_SPURS))
    return found


def ridges(values: Values) -> Values:
    """`values` [H, W] where they are a maximum along some line through them, else 0."""
    found = np.zeros_like(values)
    for line in _LINES:
        highest = cv2.dilate(values, kernel=np.array(line, np.uint8))
        np.putmask(found, highest == values, values)
    return found


def _in_four_directions(kernels: tuple[tuple[tuple[int, ...], ...], ...]) -> list[NDArray[np.int32]]:
    """The kernels turned by 0, 90, 180 and 270 degrees; all of one direction come before the next."""
    return [np.rot90(np.array(kernel, np.int32), turns) for turns in range(4) for kernel in kernels]


def _remove_hits(lines: Pixels, kernels: list[NDArray[np.int32]]) -> bool:
    """Blacken the pixels of `lines` that the kernels match, one kernel after another.

    Returns:
        whether there were any.
    """
    any_found = False
    for kernel in kernels:
        hits = cv2.morphologyEx(lines, cv2.MORPH_HITMISS, kernel) > 127
        lines[hits] = 0
        any_found = any_found or bool(hits.any())
    return any_found
