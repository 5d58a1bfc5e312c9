"""A1111's resize modes, on pictures and masks alike."""

from PIL import Image

from img2img_shared.errors import Refused

#: most pixels a picture may have between scaling and cropping (mode 1)
LARGEST = 1 << 27


def resize(image: Image.Image, mode: int, width: int, height: int) -> Image.Image:
    """`image` (RGB or L) at `width` × `height`, by Lanczos.

    Mode 0 stretches; 1 covers and crops around the centre; 2 fits, centres, and stretches the edge rows or
    columns into the bars. Sides that would vanish keep one pixel.

    Raises:
        Refused: an aspect so extreme that mode 1 would need more than `LARGEST` pixels in between.
    """
    inner = inner_size(image.size, mode, width, height)
    scaled = image.resize(inner, Image.Resampling.LANCZOS)
    if mode == 0:
        return scaled
    inner_width, inner_height = inner
    left, top = width // 2 - inner_width // 2, height // 2 - inner_height // 2
    canvas = Image.new(image.mode, (width, height))
    canvas.paste(scaled, (left, top))
    if mode == 2 and top > 0:
        # from a box without height the bicubic filter extrapolates the outermost rows: A1111's bars
        for edge, where in ((0, 0), (inner_height, top + inner_height)):
            canvas.paste(scaled.resize((width, top), box=(0, edge, width, edge)), (0, where))
    if mode == 2 and left > 0:
        for edge, where in ((0, 0), (inner_width, left + inner_width)):
            canvas.paste(scaled.resize((left, height), box=(edge, 0, edge, height)), (where, 0))
    return canvas


def inner_size(size: tuple[int, int], mode: int, width: int, height: int) -> tuple[int, int]:
    """(width, height) that a picture of `size` is scaled to before it is cropped or given bars.

    Raises:
        Refused: see `resize`.
    """
    if mode == 0:
        return width, height
    aspect, own = width / height, size[0] / size[1]
    follow_width = aspect > own if mode == 1 else aspect < own
    inner_width = width if follow_width else max(1, size[0] * height // size[1])
    follow_height = aspect <= own if mode == 1 else aspect >= own
    inner_height = height if follow_height else max(1, size[1] * width // size[0])
    if inner_width * inner_height > LARGEST:
        raise Refused(
            "image",
            f"{size[0]} × {size[1]} pixels, to cover {width} × {height}",
            f"an aspect nearer to it (scaled to cover it, at most {LARGEST:,} pixels)",
        )
    return inner_width, inner_height
