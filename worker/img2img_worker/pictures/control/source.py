"""Chooses a control unit's picture: its own or the init image, which is cropped as in the render.

Source: sd-webui-controlnet's ``choose_input_image`` and ``try_crop_image_with_a1111_mask``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from img2img_shared.control import ControlResizeMode, ControlUnit
from img2img_shared.errors import Refused, Summary
from img2img_shared.modes import ResizeMode
from img2img_shared.params import Params
from img2img_worker.pictures.mask import crop_box, soft_mask
from img2img_worker.pictures.resize import resize

Pixels = NDArray[np.uint8]

#: from img2img's resize modes to a unit's, for units that use the init image
_MODES: dict[int, ControlResizeMode] = {
    ResizeMode.JUST_RESIZE: "Just Resize",
    ResizeMode.CROP_AND_RESIZE: "Crop and Resize",
    ResizeMode.RESIZE_AND_FILL: "Resize and Fill",
    ResizeMode.LATENT_UPSCALE: "Just Resize",
}
#: and back
_NUMBERS = {"Just Resize": 0, "Crop and Resize": 1, "Resize and Fill": 2}
#: on a unit that does not inpaint, a mask with values between these is a scribble to be used as the picture
_EMPTY, _FULL = 5, 250


@dataclass(frozen=True, kw_only=True)
class Originals:
    """Decoded pictures of any size: L, RGB or RGBA."""

    #: the unit's own
    own: Image.Image | None = None
    own_mask: Image.Image | None = None
    #: the render's
    image: Image.Image | None = None
    mask: Image.Image | None = None


def source(unit: ControlUnit, originals: Originals, params: Params) -> tuple[Pixels, ControlResizeMode]:
    """The preprocessor's input, [H, W, 3] or with a mask [H, W, 4], and how to fit it to the render's size.

    Raises:
        Refused: there is no picture, or a mask has another size than its picture.
    """
    pixels, mode = _choose_picture(unit, originals, params)
    crops = unit.inpaint_crop_input_image and params.inpaint_full_res and not unit.preprocessor.is_reference
    if crops and originals.mask is not None:
        mask = plain_mask(originals.mask, params)
        box = crop_box(mask, params.inpaint_full_res_padding, params.width, params.height)
        if box is not None:
            pixels = np.stack(
                [_crop(channel, mask.size, box, mode, params) for channel in np.moveaxis(pixels, 2, 0)],
                axis=2,
            )
    return np.ascontiguousarray(pixels), mode


def plain_mask(picture: Image.Image, params: Params) -> Image.Image:
    """A render's mask as the extension reads it: by its luminance, whatever its alpha."""
    return soft_mask(picture.convert("L"), params)


def as_rgb(picture: Image.Image) -> Pixels:
    """[H, W, 3]; transparency becomes white."""
    pixels = np.array(picture)
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.shape[2] == 3:
        return pixels
    colours = pixels[:, :, :3].astype(np.float32)
    alpha = pixels[:, :, 3:].astype(np.float32) / 255.0
    return np.asarray((colours * alpha + 255.0 * (1.0 - alpha)).clip(0, 255), np.uint8)


def _choose_picture(
    unit: ControlUnit, originals: Originals, params: Params
) -> tuple[Pixels, ControlResizeMode]:
    inpaints = unit.preprocessor.inpaints
    if originals.own is not None:
        pixels = as_rgb(originals.own)
        mask = None if originals.own_mask is None else as_rgb(originals.own_mask)[:, :, :1]
        if mask is not None and mask.shape[:2] != pixels.shape[:2]:
            size = f"{mask.shape[1]} × {mask.shape[0]} pixels"
            raise Refused(
                "control.mask",
                Summary(size),
                f"give the picture's size, {pixels.shape[1]} × {pixels.shape[0]}",
            )
        if inpaints or unit.preprocessor.is_image_prompt:
            mask = np.zeros_like(pixels[:, :, :1]) if mask is None else mask
            return np.concatenate([pixels, mask], axis=2), unit.resize_mode
        if mask is not None and not (mask <= _EMPTY).all() and not (mask >= _FULL).all():
            pixels = np.repeat(mask, 3, axis=2)
        return pixels, unit.resize_mode
    if originals.image is None:
        raise Refused("control.image", None, "give a picture; txt2img has none that a unit could use instead")
    pixels, mode = as_rgb(originals.image), _MODES[params.resize_mode]
    if not inpaints:
        return pixels, mode
    mask = np.zeros_like(pixels[:, :, :1])
    if originals.mask is not None:
        mask = np.array(plain_mask(originals.mask, params))[:, :, None]
    if mask.shape[:2] != pixels.shape[:2]:
        size = f"{mask.shape[1]} × {mask.shape[0]} pixels"
        reason = f"{unit.module} needs the size of the picture, {pixels.shape[1]} × {pixels.shape[0]}"
        raise Refused("mask", Summary(size), reason)
    return np.concatenate([pixels, mask], axis=2), mode


def _crop(
    channel: Pixels,
    size: tuple[int, int],
    box: tuple[int, int, int, int],
    mode: ControlResizeMode,
    params: Params,
) -> Pixels:
    whole = resize(Image.fromarray(channel), _NUMBERS[mode], *size)
    return np.array(resize(whole.crop(box), ResizeMode.RESIZE_AND_FILL, params.width, params.height))
