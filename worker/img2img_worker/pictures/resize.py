"""A1111's resize modes, on pictures and masks alike."""

from PIL import Image

from img2img_shared.errors import Refused, Summary
from img2img_shared.modes import ResizeMode
from img2img_worker.pictures.upscale import RunNetwork, in_two_passes, no_networks, upscale

#: most pixels of a picture between two passes, or between scaling and cropping
LARGEST = 1 << 27


def resize(
    image: Image.Image,
    mode: int,
    width: int,
    height: int,
    upscaler: str = "None",
    run: RunNetwork = no_networks,
) -> Image.Image:
    """`image` (RGB or L) at `width` × `height`.

    "Crop and resize" covers the size and crops around the centre. "Resize and fill", and here "latent
    upscale", too, fits into the size, centres, and fills the bars from the edge rows or columns. Sides that
    would vanish keep one pixel. (A1111: `resize_image`.)

    Args:
        mode: a `ResizeMode`.
        upscaler: enlarges RGB pictures; an L one is a mask, and is always scaled by Lanczos.
        run: runs an upscaler's network.

    Raises:
        Refused: the aspect is so extreme that more than `LARGEST` pixels would be needed in between.
    """
    inner = inner_size(image.size, mode, width, height)
    scaled = scale(image, inner, "None" if image.mode == "L" else upscaler, run)
    if mode == ResizeMode.JUST_RESIZE:
        return scaled
    inner_width, inner_height = inner
    left, top = width // 2 - inner_width // 2, height // 2 - inner_height // 2
    canvas = Image.new(image.mode, (width, height))
    canvas.paste(scaled, (left, top))
    if mode == ResizeMode.CROP_AND_RESIZE:
        return canvas
    if top > 0:
        # from a box without height the bicubic filter extrapolates the outermost rows: A1111's bars
        for edge, where in ((0, 0), (inner_height, top + inner_height)):
            canvas.paste(scaled.resize((width, top), box=(0, edge, width, edge)), (0, where))
    if left > 0:
        for edge, where in ((0, 0), (inner_width, left + inner_width)):
            canvas.paste(scaled.resize((left, height), box=(edge, 0, edge, height)), (where, 0))
    return canvas


def inner_size(size: tuple[int, int], mode: int, width: int, height: int) -> tuple[int, int]:
    """(width, height) that a picture of `size` is scaled to before it is cropped or given bars.

    Raises:
        Refused: see `resize`.
    """
    if mode == ResizeMode.JUST_RESIZE:
        _check_passes(size, (width, height), f"{width} × {height}")
        return width, height
    aspect, own = width / height, size[0] / size[1]
    covers = mode == ResizeMode.CROP_AND_RESIZE
    follow_width = aspect > own if covers else aspect < own
    inner_width = width if follow_width else max(1, size[0] * height // size[1])
    follow_height = aspect <= own if covers else aspect >= own
    inner_height = height if follow_height else max(1, size[1] * width // size[0])
    _check_passes(size, (inner_width, inner_height), f"{width} × {height}")
    return inner_width, inner_height


def scale(
    image: Image.Image, size: tuple[int, int], upscaler: str = "None", run: RunNetwork = no_networks
) -> Image.Image:
    """`image` stretched to `size`; an upscaler enlarges it first, by the larger of both factors."""
    factor = max(size[0] / image.width, size[1] / image.height)
    if upscaler != "None" and factor > 1:
        image = upscale(image, factor, upscaler, run)
    return in_two_passes(image, size, Image.Resampling.LANCZOS)


def _check_passes(size: tuple[int, int], inner: tuple[int, int], wanted: str) -> None:
    if inner[0] * max(inner[1], size[1]) > LARGEST:
        raise Refused(
            "image",
            Summary(f"{size[0]} × {size[1]} pixels, to be scaled to {wanted}"),
            f"use a size of a more similar shape (at most {LARGEST:,} pixels while it is scaled)",
        )
