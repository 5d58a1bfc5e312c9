"""From stored bytes to what the engine renders, and from its pixels to the finished picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_worker.pictures.colour import colour_target, correct_colours
from img2img_worker.pictures.composite import cut_out, lay_over
from img2img_worker.pictures.decode import decode_picture, flatten
from img2img_worker.pictures.fill import fill
from img2img_worker.pictures.mask import Box, crop_box, doubled, latent_mask, soft_mask
from img2img_worker.pictures.resize import inner_size, resize

_ORIGINAL, _LATENT_UPSCALE = 1, 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """One image, ready to be encoded; and what `finish` needs to put the result into place."""

    #: uint8 ``[H, W, 3]``: what is encoded, already resized, cropped and filled
    pixels: NDArray[np.uint8]
    #: (h, w) of the latent to sample; in resize mode 3 not the size that `pixels` encode to
    latent_size: tuple[int, int]
    #: float32 ``[h, w]``, 1 = repaint; None: the whole picture is repainted
    mask: NDArray[np.float32] | None = None
    #: uint8 ``[H, W]``, 255 = repaint, over `pixels`: for inpainting checkpoints (there rounded if asked for)
    cond_mask: NDArray[np.uint8] | None = None
    #: RGBA: the original without what is masked
    overlay: Image.Image | None = None
    #: where in `overlay` the result belongs; None: it covers all of it
    box: Box | None = None
    #: LAB ``[H, W, 3]`` whose histograms the result takes on
    colours: NDArray[np.uint8] | None = None


def prepare(image: bytes, mask: bytes | None, params: Params, max_pixels: int, factor: int = 8) -> Prepared:
    """Decode, mask, crop, resize and fill: A1111's `StableDiffusionProcessingImg2Img.init`, up to encoding.

    With `inpaint_full_res` an all-black mask means plain img2img; without, nothing is repainted.

    Args:
        factor: pixels to a latent cell, each way; 8 in every published checkpoint.

    Raises:
        Refused: names "image" or "mask"; see `decode_picture`, and: a mask of another size than its image,
            an image too small or of too extreme an aspect for the resize mode.
    """
    picture = flatten(decode_picture(image, "image", max_pixels), params.background)
    soft = None if mask is None else soft_mask(_decode_mask(mask, picture.size, max_pixels), params)
    box = None
    if soft is not None and params.inpaint_full_res:
        box = crop_box(soft, params.inpaint_full_res_padding, params.width, params.height)
        soft = soft if box else None
    if soft is None:
        return _ready(_fitted(picture, params, factor), params, factor)
    if box is None:
        return _whole_picture(picture, soft, params, factor)
    return _only_masked(picture, soft, box, params, factor)


def finish(prepared: Prepared, pixels: NDArray[np.uint8]) -> Image.Image:
    """The finished RGB picture from what the engine decoded (uint8 ``[height, width, 3]``).

    Colour correction, then the paste back and the original over it: outside the mask the picture equals the
    (resized) input exactly.
    """
    result = Image.fromarray(pixels)
    if prepared.colours is not None:
        result = correct_colours(result, prepared.colours)
    if prepared.overlay is not None:
        result = lay_over(result, prepared.overlay, prepared.box)
    return result


def _whole_picture(picture: Image.Image, soft: Image.Image, params: Params, factor: int) -> Prepared:
    size = params.width, params.height
    work, mask = (_fitted(image, params, factor) for image in (picture, soft))
    # resize mode 3 keeps the pixels' size up to here; in the others this is a copy
    shown = work.resize(size, Image.Resampling.LANCZOS)
    shown_mask = doubled(mask).resize(size, Image.Resampling.LANCZOS)
    return _ready(work, params, factor, mask=mask, overlay=cut_out(shown, shown_mask))


def _only_masked(picture: Image.Image, soft: Image.Image, box: Box, params: Params, factor: int) -> Prepared:
    left, top, right, bottom = box
    # the way back, checked before anything is rendered
    inner_size((params.width, params.height), 1, right - left, bottom - top)
    work = resize(picture.crop(box), 2, params.width, params.height)
    mask = resize(soft.crop(box), 2, params.width, params.height)
    return _ready(work, params, factor, mask=mask, overlay=cut_out(picture, soft), box=box)


def _ready(
    work: Image.Image,
    params: Params,
    factor: int,
    *,
    mask: Image.Image | None = None,
    overlay: Image.Image | None = None,
    box: Box | None = None,
) -> Prepared:
    latent_size = params.height // factor, params.width // factor
    if mask is not None and params.inpainting_fill != _ORIGINAL:
        work = fill(work, mask)
    return Prepared(
        pixels=np.array(work),
        latent_size=latent_size,
        mask=None if mask is None else latent_mask(mask, latent_size, params.mask_round),
        cond_mask=None if mask is None else np.array(mask),
        overlay=overlay,
        box=box,
        colours=colour_target(work) if params.color_correction else None,
    )


def _fitted(image: Image.Image, params: Params, factor: int) -> Image.Image:
    """The whole picture (or its mask) at the size it is encoded in."""
    if params.resize_mode != _LATENT_UPSCALE:
        return resize(image, params.resize_mode, params.width, params.height)
    width, height = (side // factor * factor for side in image.size)
    if not width or not height:
        raise Refused("image", _size(image.size), f"at least {factor} × {factor} pixels in resize mode 3")
    return image.crop((0, 0, width, height))


def _decode_mask(mask: bytes, size: tuple[int, int], max_pixels: int) -> Image.Image:
    picture = decode_picture(mask, "mask", max_pixels)
    if picture.size != size:
        raise Refused("mask", _size(picture.size), f"the size of its image, {_size(size)}")
    return picture


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]} pixels"
