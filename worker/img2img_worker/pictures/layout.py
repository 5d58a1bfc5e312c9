"""Lays out a picture and its mask for a render, as A1111 does."""

from dataclasses import dataclass

from PIL import Image

from img2img_shared.modes import ResizeMode
from img2img_shared.params import Params
from img2img_worker.pictures.decode import flatten
from img2img_worker.pictures.mask import Box, crop_box, doubled, soft_mask
from img2img_worker.pictures.resize import inner_size, resize
from img2img_worker.pictures.upscale import RunNetwork, no_networks


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """The part of a picture that is rendered, and the picture that the result is put into."""

    #: RGB: the picture as it will be where nothing is repainted
    canvas: Image.Image
    #: L, of the render's size, 255 = repaint; None: the whole picture is repainted
    mask: Image.Image | None = None
    #: L, of the canvas' size, 255 = the result shows; None where `mask` is
    opening: Image.Image | None = None
    #: "only masked": the part of the canvas that is rendered; None: all of it
    box: Box | None = None


def lay_out(
    picture: Image.Image, mask: Image.Image | None, params: Params, run: RunNetwork = no_networks
) -> Layout:
    """Lay out a decoded picture and its mask, of any sizes, as A1111 does.

    A mask of another size than its picture is not fitted to it: "only masked" takes the box in the mask's own
    pixels, and otherwise the mask is resized like the picture. With "only masked", an all-black mask
    counts as no mask; with the whole picture, it repaints nothing. (A1111:
    `StableDiffusionProcessingImg2Img.init`.)

    Args:
        run: runs an upscaler's network.

    Raises:
        Refused: names "image": an aspect too extreme for the resize mode.
    """
    picture = flatten(picture, params.background)
    mode, width, height = params.resize_mode, params.width, params.height
    soft = None if mask is None else soft_mask(mask, params)
    box = None
    if soft is not None and params.inpaint_full_res:
        box = crop_box(soft, params.inpaint_full_res_padding, width, height)
    if box is not None or mode == ResizeMode.LATENT_UPSCALE:
        canvas = picture
    else:
        canvas = resize(picture, mode, width, height, params.upscaler_for_img2img, run)
    if soft is None or (params.inpaint_full_res and box is None):
        return Layout(canvas=canvas)
    if box is None:
        inner = resize(soft, mode, width, height)
        opening = doubled(inner)
    else:
        left, top, right, bottom = box
        # check that the result can be scaled back, too
        inner_size((width, height), ResizeMode.CROP_AND_RESIZE, right - left, bottom - top)
        inner = resize(soft.crop(box), ResizeMode.RESIZE_AND_FILL, width, height)
        opening = soft
    if opening.size != canvas.size:
        # in A1111, a whole picture's mask is RGB here, so that an upscaler enlarges it, too
        opening = opening.convert("RGB") if box is None else opening
        opening = resize(opening, mode, *canvas.size, params.upscaler_for_img2img, run).convert("L")
    return Layout(canvas=canvas, mask=inner, opening=opening, box=box)
