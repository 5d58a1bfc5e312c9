"""A1111's page "Extras": enlarges pictures and restores faces, without rendering."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from img2img_shared.errors import Refused, Summary
from img2img_shared.params import Params
from img2img_worker.pictures.resize import LARGEST
from img2img_worker.pictures.upscale import RunNetwork, upscale

Pixels = NDArray[np.uint8]
#: a restorer's name, a picture [H, W, 3], and CodeFormer's weight
RestoreFaces = Callable[[str, Pixels, float], Pixels]


def postprocess(picture: Image.Image, params: Params, run: RunNetwork, restore: RestoreFaces) -> Image.Image:
    """A decoded picture after Extras: RGB or, if no network ran, RGBA. (A1111: ``run_extras``.)

    Args:
        run: runs an upscaler's network.
        restore: restores faces.

    Raises:
        Refused: names the field: the result would be too large, or empty.
    """
    picture = _upscale(picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGB"), params, run)
    for name, opacity in (
        ("GFPGAN", params.gfpgan_visibility),
        ("CodeFormer", params.codeformer_visibility),
    ):
        if opacity:
            plain = picture.convert("RGB")
            faces = Image.fromarray(restore(name, np.array(plain), params.codeformer_weight))
            picture = faces if opacity == 1 else Image.blend(plain, faces, opacity)
    return picture


def _upscale(picture: Image.Image, params: Params, run: RunNetwork) -> Image.Image:
    first, second, opacity = params.upscaler_1, params.upscaler_2, params.extras_upscaler_2_visibility
    if first == "None":
        return picture
    result = _enlarge(picture, first, params, run)
    if second != "None" and opacity:
        over = _enlarge(picture, second, params, run).convert(result.mode)
        result = Image.blend(result, over, opacity)
    return result


def _enlarge(picture: Image.Image, upscaler: str, params: Params, run: RunNetwork) -> Image.Image:
    wanted = params.upscaling_resize_w, params.upscaling_resize_h
    factor = params.upscaling_resize
    if all(wanted):
        factor = max(side / own for side, own in zip(wanted, picture.size, strict=True))
    width, height = (int(side * factor) for side in picture.size)
    if min(width, height) < 8 or width * height > LARGEST:
        raise Refused(
            "upscaling_resize",
            Summary(f"{factor:g}, which makes {width} × {height} pixels"),
            f"ask for sides of 8 pixels or more, and at most {LARGEST:,} pixels",
        )
    result = upscale(picture, factor, upscaler, run)
    if not all(wanted) or not params.upscaling_crop:
        return result
    cropped = Image.new("RGB", wanted)
    cropped.paste(result, (wanted[0] // 2 - result.width // 2, wanted[1] // 2 - result.height // 2))
    return cropped
