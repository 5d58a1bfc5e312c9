"""Makes a unit's control picture from its pictures, and applies its final changes to the result."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from img2img_shared.control import ControlUnit
from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_worker.pictures.control.fitting import Picture, fit_picture
from img2img_worker.pictures.control.poses import Poses
from img2img_worker.pictures.control.preprocessors import Annotate, Preprocessed, no_annotator, preprocess
from img2img_worker.pictures.control.source import Originals, source

Pixels = NDArray[np.uint8]

#: modules that get a picture with its alpha channel if they run without a render
_SEE_ALPHA = frozenset(("none", "canny", "blur_gaussian"))
#: side in pixels of the kernels that widen and blur the repainted part of `inpaint_only` for its seam
_SEAM = 7


@dataclass(frozen=True, kw_only=True, eq=False)
class ControlPicture:
    """A unit's control picture, as its network gets it, of the render's size or CLIP's."""

    #: [H, W, 3], or [H, W, 4] with the mask of the repainted part, or of the part that is hidden from CLIP
    pixels: Picture
    #: the picture that is shown to people; None: `pixels`
    shown: Picture | None = None
    #: the poses that it was drawn from, if any
    poses: Poses | None = None

    @property
    def n_bytes(self) -> int:
        return self.pixels.nbytes + (0 if self.shown is None else self.shown.nbytes)

    @property
    def map(self) -> Image.Image:
        """The picture for people; RGBA if it has a mask, with the repainted part half transparent."""
        shown = (self.pixels if self.shown is None else self.shown).copy()
        if shown.shape[2] == 4:
            shown[:, :, 3] = 255 - shown[:, :, 3] // 2
        return Image.fromarray(shown.clip(0, 255).astype(np.uint8))


def control_pictures(
    unit: ControlUnit,
    originals: Originals,
    params: Params,
    sizes: list[tuple[int, int]],
    seed: int,
    annotate: Annotate = no_annotator,
) -> list[ControlPicture]:
    """A unit's picture at each of `sizes`, (width, height).

    Args:
        seed: the seed of preprocessors with randomness.
        annotate: runs the preprocessors' networks.

    Raises:
        Refused: there is no picture, the preprocessor is not available, or the aspect is too extreme.
    """
    pixels, mode = source(unit, originals, params)
    found: Picture = _preprocess(unit, pixels, mode, sizes[0], seed, annotate).pixels
    if unit.preprocessor.is_image_prompt:
        return [ControlPicture(pixels=found, shown=pixels)] * len(sizes)
    if unit.preprocessor.inpaints:
        found = found.astype(np.float32)
    return [ControlPicture(pixels=fit_picture(found, mode, width, height)) for width, height in sizes]


def control_map(
    unit: ControlUnit, originals: Originals, params: Params, seed: int, annotate: Annotate = no_annotator
) -> ControlPicture:
    """A unit's control picture in the preprocessor's size, not the render's; see `control_pictures`."""
    if unit.preprocessor.is_image_prompt:
        raise Refused("control.module", unit.module, "no picture comes of it; render with it")
    pixels, mode = source(unit, originals, params)
    if originals.own is not None and originals.own.mode == "RGBA" and unit.preprocessor.name in _SEE_ALPHA:
        pixels = np.array(originals.own)
    found = _preprocess(unit, pixels, mode, (params.width, params.height), seed, annotate)
    return ControlPicture(pixels=found.pixels, poses=found.poses)


def finish_result(result: Pixels, unit: ControlUnit, control: ControlPicture) -> Pixels:
    """A render's result [H, W, 3] with the final changes of the unit's module."""
    if "recolor" in unit.module:
        return _recolour(result, control, by_luminance="luminance" in unit.module)
    if "inpaint_only" in unit.module and control.pixels.shape[2] == 4:
        return _laid_into(result, control)
    return result


def _preprocess(
    unit: ControlUnit, pixels: Pixels, mode: str, size: tuple[int, int], seed: int, annotate: Annotate
) -> Preprocessed:
    resolution = _pixel_perfect(pixels, mode, *size) if unit.pixel_perfect else unit.resolution
    return preprocess(unit.preprocessor, pixels, resolution, unit.thresholds, seed, annotate)


def _pixel_perfect(pixels: Pixels, mode: str, width: int, height: int) -> int:
    """The shorter side at which no pixel of the result has to be interpolated."""
    factors = height / pixels.shape[0], width / pixels.shape[1]
    factor = min(factors) if mode == "Resize and Fill" else max(factors)
    shorter: int = min(pixels.shape[:2])
    return round(float(factor) * shorter)


def _laid_into(result: Pixels, control: ControlPicture) -> Pixels:
    original = control.pixels[:, :, :3].astype(np.float32) / 255
    mask = control.pixels[:, :, 3].astype(np.float32) / 255
    seam = cv2.blur(cv2.dilate(mask, np.ones((_SEAM, _SEAM), np.uint8)), (_SEAM, _SEAM))[:, :, None]
    # half a level makes up for what truncation to 8 bits has taken on average
    mixed = seam * ((result.astype(np.float32) + 0.5) / 255) + (1 - seam) * original
    return (255.0 * mixed.clip(0, 1)).astype(np.uint8)


def _recolour(result: Pixels, control: ControlPicture, *, by_luminance: bool) -> Pixels:
    """`result` with the control picture's lightness."""
    there, back, place = (
        (cv2.COLOR_RGB2LAB, cv2.COLOR_LAB2RGB, 0)
        if by_luminance
        else (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB, 2)
    )
    converted = cv2.cvtColor(result, there)
    converted[:, :, place] = control.pixels[:, :, 0]
    values = cv2.cvtColor(converted, back).astype(np.float32) / 255.0
    return (255.0 * values).astype(np.uint8)
