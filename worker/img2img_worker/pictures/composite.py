"""Puts the result into the original picture, which does not change outside the mask."""

from dataclasses import dataclass

from PIL import Image, ImageOps

from img2img_shared.modes import ResizeMode
from img2img_shared.params import Params
from img2img_worker.pictures.layout import Layout, lay_out
from img2img_worker.pictures.resize import resize
from img2img_worker.pictures.upscale import RunNetwork, no_networks


@dataclass(frozen=True, kw_only=True, eq=False)
class Composed:
    """A finished picture, and what A1111 returns besides it if asked to."""

    #: RGB
    picture: Image.Image
    #: RGB, the mask that the result shows through (`return_mask`)
    mask: Image.Image | None = None
    #: RGBA, the result where it shows (`return_mask_composite`)
    mask_composite: Image.Image | None = None


def compose(
    result: Image.Image,
    picture: Image.Image,
    mask: Image.Image | None,
    params: Params,
    soft_opening: Image.Image | None = None,
    run: RunNetwork = no_networks,
) -> Composed:
    """`result` (RGB, of the render's size) put into the picture it was made from, where the mask is.

    Args:
        picture, mask: decoded; the same that were prepared.
        soft_opening: L, of the render's size: where the result shows, in place of the mask; always applied,
            as in A1111.
        run: runs an upscaler's network.
    """
    layout = lay_out(picture, mask, params, run)
    opening = layout.opening
    if opening is None:
        return Composed(picture=result)
    # for a canvas of another size (latent upscale) A1111's script fails, and its own mask is left
    is_soft = soft_opening is not None and (layout.box is not None or soft_opening.size == opening.size)
    if soft_opening is not None and is_soft:
        opening = _placed(soft_opening, layout, "None", run).convert("L")
    finished = placed = result
    if params.overlay_inpaint or is_soft:
        placed = _placed(result, layout, params.upscaler_for_img2img, run)
        finished = placed.convert("RGBA")
        finished.alpha_composite(_cut_out(layout.canvas, opening))
    return Composed(
        picture=finished.convert("RGB"),
        mask=opening.convert("RGB") if params.return_mask else None,
        mask_composite=_composite(placed, opening) if params.return_mask_composite else None,
    )


def _placed(result: Image.Image, layout: Layout, upscaler: str, run: RunNetwork) -> Image.Image:
    """`result` at its place on a canvas, which is transparent elsewhere. (A1111: `uncrop`.)"""
    if layout.box is None:
        return result
    left, top, right, bottom = layout.box
    placed = Image.new("RGBA", layout.canvas.size)
    size = right - left, bottom - top
    placed.paste(resize(result, ResizeMode.CROP_AND_RESIZE, *size, upscaler, run), (left, top))
    return placed


def _cut_out(image: Image.Image, mask: Image.Image) -> Image.Image:
    """`image` (RGB) as RGBA with alpha ``255 - mask``, to be composited over the result."""
    kept = Image.new("RGBa", image.size)
    kept.paste(image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask))
    return kept.convert("RGBA")


def _composite(placed: Image.Image, opening: Image.Image) -> Image.Image:
    shown = resize(opening, ResizeMode.RESIZE_AND_FILL, *placed.size)
    nothing = Image.new("RGBa", placed.size)
    return Image.composite(placed.convert("RGBA").convert("RGBa"), nothing, shown).convert("RGBA")
