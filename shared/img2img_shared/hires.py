"""The sizes of A1111's hires fix: a picture from noise, enlarged, and rendered once more."""

import math
from dataclasses import dataclass

from img2img_shared.errors import Refused, Summary
from img2img_shared.param_fields import ParamFields
from img2img_shared.param_groups.hires_params import LARGEST

#: what enlarges the latent, and not the picture: torch's modes, and whether they smooth first
LATENT_UPSCALERS: dict[str, tuple[str, bool]] = {
    "Latent": ("bilinear", False),
    "Latent (antialiased)": ("bilinear", True),
    "Latent (bicubic)": ("bicubic", False),
    "Latent (bicubic antialiased)": ("bicubic", True),
    "Latent (nearest)": ("nearest", False),
    "Latent (nearest-exact)": ("nearest-exact", False),
}
#: where none is named
DEFAULT_UPSCALER = "Latent"


@dataclass(frozen=True, kw_only=True)
class HiresSize:
    """The size of a picture before its second pass, and how much of that is cropped."""

    #: in pixels, not rounded to latent cells
    width: int
    height: int
    #: pixels beyond what was asked for; cut off as whole latent cells, evenly from both ends
    surplus_width: int = 0
    surplus_height: int = 0


def hires_size(params: ParamFields) -> HiresSize:
    """By `hr_scale`, or to cover `hr_resize_x` × `hr_resize_y`, one of which may be 0.

    Source: A1111's ``calculate_target_resolution``.

    Raises:
        Refused: a side that no render may have; names the field.
    """
    width, height = params.width, params.height
    wanted_width, wanted_height = params.hr_resize_x, params.hr_resize_y
    surplus = 0, 0
    if not wanted_width and not wanted_height:
        size = int(width * params.hr_scale), int(height * params.hr_scale)
    elif not wanted_height or (wanted_width and width / height < wanted_width / wanted_height):
        size = wanted_width, wanted_width * height // width
        surplus = 0, size[1] - wanted_height if wanted_height else 0
    else:
        size = wanted_height * width // height, wanted_height
        surplus = size[0] - wanted_width if wanted_width else 0, 0
    kept = [side - more for side, more in zip(size, surplus, strict=True)]
    if min(kept) < 64 or max(size) > LARGEST:
        raise Refused(
            "hr_scale, hr_resize_x, hr_resize_y",
            Summary(f"{size[0]} × {size[1]} pixels"),
            f"give sides from 64 to {LARGEST} pixels",
        )
    return HiresSize(width=size[0], height=size[1], surplus_width=surplus[0], surplus_height=surplus[1])


def old_first_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of the first pass for a picture of that final size: about 512 × 512 pixels.

    Source: A1111's ``old_hires_fix_first_pass_dimensions``, which `use_old_hires_fix_width_height` asks for.

    >>> old_first_size(1024, 768)
    (640, 448)
    """
    scale = math.sqrt(512 * 512 / (width * height))
    return math.ceil(scale * width / 64) * 64, math.ceil(scale * height / 64) * 64
