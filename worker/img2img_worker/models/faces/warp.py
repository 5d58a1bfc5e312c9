"""Affine transforms of pictures, equal to the bit to those of OpenCV 4, which A1111 uses."""

from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = TypeVar("Pixels", NDArray[np.uint8], NDArray[np.float64])

#: fractional bits of OpenCV 4's fixed-point numbers: of a column's and a row's part of a place; of places
_SHARE_BITS, _PLACE_BITS = 10, 5


def warp(
    pixels: Pixels, matrix: NDArray[Any], width: int, height: int, around: tuple[int, ...] = (0,)
) -> Pixels:
    """Move `pixels` [h, w, ...] by the affine `matrix` [2, 3] into a picture [height, width, ...].

    OpenCV 4 rounds places to 32nds of a pixel, and `warpAffine` of OpenCV 5 does not, which makes some pixels
    differ by a level. That is enough to change which codes CodeFormer chooses.

    Args:
        around: the colour beyond the picture's edges.
    """
    back: NDArray[Any] = cv2.invertAffineTransform(matrix)
    columns = _to_fixed_point(back[:, 0, None] * np.arange(width))[:, None, :]
    rows = _to_fixed_point(back[:, 1, None] * np.arange(height) + back[:, 2, None])[:, :, None]
    half = 1 << (_SHARE_BITS - _PLACE_BITS - 1)
    places = (columns + rows + half) >> (_SHARE_BITS - _PLACE_BITS)
    whole = (places >> _PLACE_BITS).clip(-(1 << 15), (1 << 15) - 1).astype(np.int16)
    x, y = places & ((1 << _PLACE_BITS) - 1)
    fractions = ((y << _PLACE_BITS) + x).astype(np.uint16)
    moved: Any = cv2.remap(pixels, whole.transpose(1, 2, 0), fractions, cv2.INTER_LINEAR, borderValue=around)
    return moved  # type: ignore[no-any-return]


def _to_fixed_point(share: NDArray[Any]) -> NDArray[np.int64]:
    counted: NDArray[np.int64] = np.rint(share * (1 << _SHARE_BITS)).astype(np.int64)
    return counted
