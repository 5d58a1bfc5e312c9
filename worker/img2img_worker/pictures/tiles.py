"""Pictures too large for a network, enlarged tile by tile as A1111 does: the memory it takes is a tile's."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: makes a picture some whole number of times larger, each way
Enlarge = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How a picture is cut."""

    #: pixels of a tile, each way; 0: it is not cut
    size: int
    #: pixels that neighbours have in common, at least
    overlap: int


def blended(image: Image.Image, tiling: Tiling, enlarge: Enlarge, scale: int) -> Image.Image:
    """`image` (RGB) out of tiles that fade into their left and upper neighbours.

    Where it is smaller than a tile, its one tile is black above and left of it. (A1111: ``split_grid`` and
    ``combine_grid``.)

    Args:
        scale: how much larger `enlarge` makes a tile.
    """
    if not tiling.size:
        return enlarge(image)
    size, fade = tiling.size, tiling.overlap * scale
    width, height = image.width * scale, image.height * scale
    whole = Image.new("RGB", (width, height))
    ramp = (np.arange(fade, dtype=np.float32) * 255 / max(fade, 1)).astype(np.uint8)
    across = np.tile(ramp, (size * scale, 1))
    down = np.tile(ramp[:, None], (1, width))
    for y in _places(image.height, tiling):
        row = Image.new("RGB", (width, size * scale))
        for x in _places(image.width, tiling):
            tile = enlarge(image.crop((x, y, x + size, y + size)))
            _lay(row, tile, (x * scale, 0), across, (fade, 0))
        _lay(whole, row, (0, y * scale), down, (0, fade))
    return whole


def _places(side: int, tiling: Tiling) -> Sequence[int]:
    """Where tiles begin along a side; spread evenly, the last ends with it."""
    size, overlap = tiling.size, tiling.overlap
    count = max(1, math.ceil((side - overlap) / (size - overlap)))
    step = (side - size) / (count - 1) if count > 1 else 0
    return [side - size if int(i * step) + size >= side else int(i * step) for i in range(count)]


def _lay(
    canvas: Image.Image,
    tile: Image.Image,
    place: tuple[int, int],
    opacity: NDArray[np.uint8],
    fade: tuple[int, int],
) -> None:
    """`tile` onto `canvas`; but at its beginning as it is, it fades in over so many columns or rows."""
    if place == (0, 0) or not opacity.size:
        canvas.paste(tile, place)
        return
    fading = fade[0] or tile.width, fade[1] or tile.height
    canvas.paste(tile.crop((0, 0, *fading)), place, mask=Image.fromarray(opacity))
    canvas.paste(tile.crop((*fade, *tile.size)), (place[0] + fade[0], place[1] + fade[1]))


Values = NDArray[np.float32]


def averaged(image: Values, tiling: Tiling, enlarge: Callable[[Values], Values], scale: int) -> Values:
    """`image`, float32 [C, H, W], out of tiles whose mean is taken where they overlap.

    Tiles are no larger than the picture. (A1111: ``tiled_upscale_2``.)
    """
    channels, height, width = image.shape
    size = min(tiling.size, height, width)
    if size <= 0:
        return enlarge(image)
    total = np.zeros((channels, height * scale, width * scale), np.float32)
    count = np.zeros((1, *total.shape[1:]), np.float32)
    for y in _strides(height, size, tiling.overlap):
        for x in _strides(width, size, tiling.overlap):
            there = np.s_[:, y * scale : (y + size) * scale, x * scale : (x + size) * scale]
            total[there] += enlarge(image[:, y : y + size, x : x + size])
            count[there] += 1
    return np.divide(total, count, out=total)


def _strides(side: int, size: int, overlap: int) -> Sequence[int]:
    return [*range(0, side - size, max(1, size - overlap)), side - size]
