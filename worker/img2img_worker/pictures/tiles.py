"""Enlarges large pictures tile by tile, as A1111 does, so that a network needs memory for one tile only."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from img2img_shared.tile_places import places

#: makes a picture some whole number of times wider and higher
Enlarge = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How a picture is cut."""

    #: width and height of a tile in pixels; 0: the picture is not cut
    size: int
    #: least pixels that neighbours have in common
    overlap: int


def blended(image: Image.Image, tiling: Tiling, enlarge: Enlarge, scale: int) -> Image.Image:
    """`image` (RGB), enlarged in tiles that fade into their left and upper neighbours.

    If it is smaller than a tile, its only tile is black above it and to its left. (A1111: ``split_grid`` and
    ``combine_grid``.)

    Args:
        scale: how much larger `enlarge` makes a tile.
    """
    if not tiling.size:
        return enlarge(image)
    size = tiling.size
    rows, columns = places(image.height, size, tiling.overlap), places(image.width, size, tiling.overlap)
    tiles = (enlarge(image.crop((x, y, x + size, y + size))) for y in rows for x in columns)
    return merged(
        tiles,
        (image.width * scale, image.height * scale),
        rows=[y * scale for y in rows],
        columns=[x * scale for x in columns],
        fade=tiling.overlap * scale,
    )


def merged(
    tiles: Iterable[Image.Image],
    size: tuple[int, int],
    *,
    rows: Sequence[int],
    columns: Sequence[int],
    fade: int,
) -> Image.Image:
    """Tiles (RGB, of one size), row by row, as one picture; each fades into those to its left and above.

    Args:
        size: width and height of the picture.
        rows, columns: where tiles begin.
        fade: pixels over which a tile fades in.
    """
    whole, upcoming = Image.new("RGB", size), iter(tiles)
    ramp = (np.arange(fade, dtype=np.float32) * 255 / max(fade, 1)).astype(np.uint8)
    down = np.tile(ramp[:, None], (1, size[0]))
    for y in rows:
        row = list(islice(upcoming, len(columns)))
        strip = Image.new("RGB", (size[0], row[0].height))
        across = np.tile(ramp, (strip.height, 1))
        for x, tile in zip(columns, row, strict=True):
            _lay(strip, tile, (x, 0), across, (fade, 0))
        _lay(whole, strip, (0, y), down, (0, fade))
    return whole


def _lay(
    canvas: Image.Image,
    tile: Image.Image,
    place: tuple[int, int],
    opacity: NDArray[np.uint8],
    fade: tuple[int, int],
) -> None:
    """Paste `tile` onto `canvas`; unless it is the first, it fades in over `fade` columns or rows."""
    if place == (0, 0) or not opacity.size:
        canvas.paste(tile, place)
        return
    fading = fade[0] or tile.width, fade[1] or tile.height
    canvas.paste(tile.crop((0, 0, *fading)), place, mask=Image.fromarray(opacity))
    canvas.paste(tile.crop((*fade, *tile.size)), (place[0] + fade[0], place[1] + fade[1]))


Values = NDArray[np.float32]


def averaged(image: Values, tiling: Tiling, enlarge: Callable[[Values], Values], scale: int) -> Values:
    """`image`, float32 [C, H, W], enlarged in tiles, which are averaged where they overlap.

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
