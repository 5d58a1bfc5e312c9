"""The original over the result: outside the mask nothing changes."""

from PIL import Image, ImageOps

from img2img_worker.pictures.mask import Box
from img2img_worker.pictures.resize import resize


def cut_out(image: Image.Image, mask: Image.Image) -> Image.Image:
    """`image` as RGBA with alpha ``255 - mask``: what is later laid over the result."""
    kept = Image.new("RGBa", image.size)
    kept.paste(image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask))
    return kept.convert("RGBA")


def lay_over(result: Image.Image, overlay: Image.Image, box: Box | None) -> Image.Image:
    """`overlay` (RGBA) over `result` (RGB), which is first put into `box` of it, cover and crop; RGB.

    A1111: `uncrop` and `apply_overlay`.
    """
    if box is not None:
        left, top, right, bottom = box
        base = Image.new("RGBA", overlay.size)
        base.paste(resize(result, 1, right - left, bottom - top), (left, top))
    else:
        base = result.convert("RGBA")
    base.alpha_composite(overlay)
    return base.convert("RGB")
