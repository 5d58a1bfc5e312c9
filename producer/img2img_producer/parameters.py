"""Parameters as users give them (a file, a dict, options) made into those of a job."""

import random
from collections.abc import Mapping
from typing import Any

from img2img_shared.errors import Refused
from img2img_shared.params import Params, read_params

#: seeds are drawn from A1111's range, so that one can be typed into other tools
_SEEDS = 2**32


def merge_params(base: Params | Mapping[str, Any] | None, given: Mapping[str, Any]) -> Params:
    """`given` over `base`, checked.

    Raises:
        Refused: names the parameter, its value and what is allowed.
    """
    if isinstance(base, Params):
        base = base.model_dump(exclude_unset=True)
    elif not isinstance(base, Mapping | None):
        raise Refused("params", base, "a map of parameters")
    below = dict(base or {})
    if "mask_blur" in below:  # else the base's short form would win over a given mask_blur_x
        below["mask_blur_x"] = below["mask_blur_y"] = below.pop("mask_blur")
    return read_params({**below, **given})


def draw_seeds(params: Params) -> Params:
    """`params` with seed and subseed drawn where they are -1, once, so that the job can be told again."""
    draw = random.SystemRandom()  # not the program's own generator, which it may have seeded for a reason
    drawn = {name: draw.randrange(_SEEDS) for name in ("seed", "subseed") if getattr(params, name) < 0}
    return params.model_copy(update=drawn)
