"""Pictures turned, moved and scaled, to the bit as OpenCV 4 does it, which A1111 has."""

from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = TypeVar("Pixels", NDArray[np.uint8], NDArray[np.float64])

#: bits behind the point of what is counted in: a row's and a column's share of a place, and places in pixels
_SHARE_BITS, _PLACE_BITS = 10, 5


def warped(
    pixels: Pixels, matrix: NDArray[Any], width: int, height: int, around: tuple[int, ...] = (0,)
) -> Pixels:
    """`pixels` [h, w, ...] where `matrix` [2, 3] moves them to, [height, width, ...].

    OpenCV 4 reads at places in 32nds of a pixel; `warpAffine` of OpenCV 5 at exact ones, which is a level
    apart here and there. CodeFormer's choice among its codes can turn on that.

    Args:
        around: the colour of what lies beyond the picture.
    """
    back: NDArray[Any] = cv2.invertAffineTransform(matrix)
    columns = _counted(back[:, 0, None] * np.arange(width))[:, None, :]
    rows = _counted(back[:, 1, None] * np.arange(height) + back[:, 2, None])[:, :, None]
    half = 1 << (_SHARE_BITS - _PLACE_BITS - 1)
    places = (columns + rows + half) >> (_SHARE_BITS - _PLACE_BITS)
    whole = (places >> _PLACE_BITS).clip(-(1 << 15), (1 << 15) - 1).astype(np.int16)
    x, y = places & ((1 << _PLACE_BITS) - 1)
    fractions = ((y << _PLACE_BITS) + x).astype(np.uint16)
    moved: Any = cv2.remap(pixels, whole.transpose(1, 2, 0), fractions, cv2.INTER_LINEAR, borderValue=around)
    return moved  # type: ignore[no-any-return]


def _counted(share: NDArray[Any]) -> NDArray[np.int64]:
    counted: NDArray[np.int64] = np.rint(share * (1 << _SHARE_BITS)).astype(np.int64)
    return counted
