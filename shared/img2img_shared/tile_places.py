"""Where A1111 cuts a picture into tiles, and by how much it lets one grow."""

import math
from collections.abc import Sequence

#: each side of a grown picture is a multiple of so many pixels
MULTIPLE = 64

#: left, top, right, bottom
Box = tuple[int, int, int, int]


def places(side: int, size: int, overlap: int) -> Sequence[int]:
    """Where tiles of a size begin along a side; spread evenly, the last ends with it."""
    count = max(1, math.ceil((side - overlap) / (size - overlap)))
    step = (side - size) / (count - 1) if count > 1 else 0
    return [side - size if int(i * step) + size >= side else int(i * step) for i in range(count)]


def is_inside(box: Box, outer: Box) -> bool:
    """Whether nothing of `box` lies outside of `outer`."""
    return box[0] >= outer[0] and box[1] >= outer[1] and box[2] <= outer[2] and box[3] <= outer[3]


def grown_side(side: int, pixels: int, sides: Sequence[str], ends: tuple[str, str]) -> tuple[int, int, int]:
    """By how much a side grows at its beginning and its end, and to what: what is left over is shared out."""
    before, after = (pixels if end in sides else 0 for end in ends)
    whole = -(-(side + before + after) // MULTIPLE) * MULTIPLE
    if before:
        before = before * (whole - side) // (before + after)
    if after:
        after = whole - side - before
    return before, after, whole


def outer_tiles(picture: tuple[int, int], pixels: int, sides: Sequence[str], tile: tuple[int, int]) -> int:
    """How many tiles reach beyond a picture that grows by so many pixels, by which its tiles overlap.

    Args:
        picture, tile: width and height.
        sides: at which it grows.
    """
    left, right, width = grown_side(picture[0], pixels, sides, ("left", "right"))
    up, down, height = grown_side(picture[1], pixels, sides, ("up", "down"))
    inside = left, up, width - right, height - down
    boxes = (
        (x, y, x + tile[0], y + tile[1])
        for y in places(height, tile[1], pixels)
        for x in places(width, tile[0], pixels)
    )
    return sum(not is_inside(box, inside) for box in boxes)
