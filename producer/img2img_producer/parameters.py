"""Parameters as users give them (a file, a dict, options) made into those of a job."""

from collections.abc import Mapping
from typing import Any

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_shared.refusals import read_params


def merge_params(base: Params | Mapping[str, Any] | None, given: Mapping[str, Any]) -> Params:
    """`given` over `base`, checked.

    Raises:
        Refused: names the parameter, its value and what is allowed.
    """
    if isinstance(base, Params):
        base = base.model_dump(exclude_unset=True)
    elif not isinstance(base, Mapping | None):
        raise Refused("params", base, "give a dict of parameters")
    below = dict(base or {})
    if "mask_blur" in below:  # else the base's short form would win over a given mask_blur_x
        below["mask_blur_x"] = below["mask_blur_y"] = below.pop("mask_blur")
    return read_params({**below, **given})
