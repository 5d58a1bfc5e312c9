"""Where A1111 cuts a picture into tiles, and by how much it lets a picture grow."""

import math
from collections.abc import Sequence

#: each side of a grown picture is a multiple of so many pixels
MULTIPLE = 64

#: left, top, right, bottom
Box = tuple[int, int, int, int]


def places(side: int, size: int, overlap: int) -> Sequence[int]:
    """The starts of tiles of that size along a side, evenly spread; the last tile ends with the side."""
    count = max(1, math.ceil((side - overlap) / (size - overlap)))
    step = (side - size) / (count - 1) if count > 1 else 0
    return [side - size if int(i * step) + size >= side else int(i * step) for i in range(count)]


def is_inside(box: Box, outer: Box) -> bool:
    """Whether `box` is entirely within `outer`."""
    return box[0] >= outer[0] and box[1] >= outer[1] and box[2] <= outer[2] and box[3] <= outer[3]


def grown_side(side: int, pixels: int, sides: Sequence[str], ends: tuple[str, str]) -> tuple[int, int, int]:
    """How much a side grows at its start and its end, and its new length; both share the remainder."""
    before, after = (pixels if end in sides else 0 for end in ends)
    whole = -(-(side + before + after) // MULTIPLE) * MULTIPLE
    if before:
        before = before * (whole - side) // (before + after)
    if after:
        after = whole - side - before
    return before, after, whole


def outer_tiles(picture: tuple[int, int], pixels: int, sides: Sequence[str], tile: tuple[int, int]) -> int:
    """How many tiles reach beyond a picture that grows by so many pixels, which is also the tiles' overlap.

    Args:
        picture, tile: width and height.
        sides: those at which it grows.
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
