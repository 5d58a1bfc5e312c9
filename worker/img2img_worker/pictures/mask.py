"""Masks: which pixels are repainted, 8-bit L, 255 = repaint."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from img2img_shared.params import Params
from img2img_worker.pictures.upscale import in_two_passes

#: left, top, right, bottom; the last two are just outside the box
Box = tuple[int, int, int, int]


def soft_mask(picture: Image.Image, params: Params) -> Image.Image:
    """The mask in a decoded picture: L, inverted and blurred as `params` say.

    RGBA that is not opaque gives its alpha (with `mask_round`: above 128 → 255, else 0), anything else
    its luminance. Blur is across, then down, each rounded to 8 bits. (A1111: `create_binary_mask`.)
    """
    mask = _read(picture, params.rounds_mask)
    if params.inpainting_mask_invert:
        mask = ImageOps.invert(mask)
    across, down = params.mask_blur_x, params.mask_blur_y
    if not across and not down:
        return mask
    pixels = np.array(mask)
    if across:
        pixels = cv2.GaussianBlur(pixels, (_kernel_size(across), 1), across).reshape(pixels.shape)
    if down:
        pixels = cv2.GaussianBlur(pixels, (1, _kernel_size(down)), down).reshape(pixels.shape)
    return Image.fromarray(pixels)


def doubled(mask: Image.Image) -> Image.Image:
    """``min(255, 2 · mask)``: a half-masked pixel counts as masked when the original is laid over."""
    return mask.point([min(255, 2 * value) for value in range(256)])


def latent_mask(mask: Image.Image, latent_size: tuple[int, int], rounded: bool) -> NDArray[np.float32]:
    """The mask at the latent's size, float32 ``[h, w]`` in 0..1, 1 = repaint.

    Bicubic, Pillow's default for such pictures, as in A1111.
    """
    height, width = latent_size
    small = in_two_passes(mask, (width, height), Image.Resampling.BICUBIC)
    shares = np.asarray(small).astype(np.float32) / np.float32(255)
    return np.around(shares) if rounded else shares


def crop_box(mask: Image.Image, padding: int, width: int, height: int) -> Box | None:
    """The part of the picture that "only masked" works on; None for an all-black mask.

    The box of the non-zero pixels, padded and clamped; its short side grown to the aspect of
    `width` : `height`, moved inside the picture, and clipped if it is larger than that.
    (A1111: `get_crop_region_v2`, `expand_crop_region`.)
    """
    bounds = mask.getbbox()
    if bounds is None:
        return None
    left, top = (max(side - padding, 0) for side in bounds[:2])
    right, bottom = (min(side + padding, limit) for side, limit in zip(bounds[2:], mask.size, strict=True))
    aspect = width / height
    if (right - left) / (bottom - top) > aspect:
        top, bottom = _grown(top, bottom, (right - left) / aspect, mask.height)
    else:
        left, right = _grown(left, right, (bottom - top) * aspect, mask.width)
    return left, top, right, bottom


def _read(picture: Image.Image, rounded: bool) -> Image.Image:
    if picture.mode == "RGBA":
        alpha = picture.getchannel("A")
        if alpha.getextrema() != (255, 255):
            return alpha.point([255 * (value > 128) for value in range(256)]) if rounded else alpha
    return picture.convert("L")


def _kernel_size(sigma: float) -> int:
    return 2 * int(2.5 * sigma + 0.5) + 1


def _grown(start: int, end: int, wanted: float, limit: int) -> tuple[int, int]:
    """The segment grown to `wanted` on both sides, moved into 0..limit, then clipped."""
    more = int(wanted - (end - start))
    length = end - start + more
    start = max(0, min(start - more // 2, limit - length))
    return start, min(start + length, limit)
