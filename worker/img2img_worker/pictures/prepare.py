"""Prepares a picture and its mask for the engine."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from img2img_shared.errors import Refused, Summary
from img2img_shared.modes import InpaintingFill, ResizeMode
from img2img_shared.params import Params
from img2img_worker.pictures.colour import colour_target
from img2img_worker.pictures.fill import fill
from img2img_worker.pictures.layout import lay_out
from img2img_worker.pictures.mask import latent_mask
from img2img_worker.pictures.resize import resize, scale
from img2img_worker.pictures.upscale import RunNetwork, no_networks


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """An image ready to be encoded; except for latent upscale, it is no larger than its render."""

    #: uint8 ``[H, W, 3]``: what is encoded, already resized, cropped and filled
    pixels: NDArray[np.uint8]
    #: (h, w) of the latent to sample; in latent upscale not the size that `pixels` encode to
    latent_size: tuple[int, int]
    #: float32 ``[h, w]``, 1 = repaint; None: the whole picture is repainted
    mask: NDArray[np.float32] | None = None
    #: uint8 ``[H, W]``, 255 = repaint, of the size of `pixels`: for inpainting checkpoints, not rounded yet
    cond_mask: NDArray[np.uint8] | None = None
    #: LAB ``[H, W, 3]`` whose histograms the result takes on
    colours: NDArray[np.uint8] | None = None


def prepare(
    picture: Image.Image,
    mask: Image.Image | None,
    params: Params,
    factor: int = 8,
    run: RunNetwork = no_networks,
) -> Prepared:
    """Lay out, crop, resize and fill: A1111's `StableDiffusionProcessingImg2Img.init`, up to encoding.

    Args:
        picture, mask: decoded, of any size.
        factor: pixels per latent cell along each side; 8 in every published checkpoint.
        run: runs an upscaler's network.

    Raises:
        Refused: names "image": it is too small, or its aspect too extreme, for the resize mode.
    """
    layout = lay_out(picture, mask, params, run)
    work = layout.canvas
    if layout.box is not None:
        crop = work.crop(layout.box)
        inner = params.width, params.height
        work = resize(crop, ResizeMode.RESIZE_AND_FILL, *inner, params.upscaler_for_img2img, run)
    if min(work.size) < factor:
        size = Summary(f"{work.width} × {work.height} pixels")
        raise Refused(
            "image", size, f"give a picture of at least {factor} × {factor} pixels for resize mode 3"
        )
    latent_size = params.height // factor, params.width // factor
    if layout.mask is None:
        return Prepared(pixels=np.array(work), latent_size=latent_size, colours=_colours(work, params))
    # the sizes differ in latent upscale only, where A1111 fills nothing and has no inpainting checkpoints
    over_work = scale(layout.mask, work.size)
    if params.inpainting_fill != InpaintingFill.ORIGINAL:
        work = fill(work, over_work)
    return Prepared(
        pixels=np.array(work),
        latent_size=latent_size,
        mask=latent_mask(layout.mask, latent_size, params.rounds_mask),
        cond_mask=np.array(over_work),
        colours=_colours(work, params),
    )


def _colours(work: Image.Image, params: Params) -> NDArray[np.uint8] | None:
    return colour_target(work) if params.color_correction else None
