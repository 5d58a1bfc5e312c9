"""The parameters in an infotext: how a picture was made, for making another one that way."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from img2img_gateway.sdapi.option_table import parameters_of
from img2img_gateway.sdapi.read_infotext import (
    FIELDS,
    OPTIONS,
    SOFT_INPAINTING,
    TXT2IMG_FIELDS,
    options_of,
    typed,
)
from img2img_shared.control import MOST_UNITS, ControlUnit
from img2img_shared.control_modules import find_module
from img2img_shared.errors import Refused
from img2img_shared.infotext_parser import read_pairs, split_pairs
from img2img_shared.param_fields import SOFT_FIELDS
from img2img_shared.param_groups.size_params import CELL
from img2img_shared.params import Params
from img2img_shared.refusals import read_params
from img2img_shared.sampler_names import split_sampler

_MASKED_CONTENT = {"fill": 0, "original": 1, "latent noise": 2, "latent nothing": 3}
#: names in the text, and the parameters that they tell, beside those that requests of A1111's take from it
_NAMES: dict[str, tuple[str, Callable[[str], Any]]] = {
    **{name: known for name, known in {**FIELDS, **TXT2IMG_FIELDS}.items() if name != "Batch size"},
    # as it is written; A1111 reads it the wrong way round
    "Seed resize from-1": ("seed_resize_from_w", int),
    "Seed resize from-2": ("seed_resize_from_h", int),
    "Image CFG scale": ("image_cfg_scale", float),
    "Distilled CFG Scale": ("distilled_cfg_scale", float),
    "Face restoration": ("face_restoration_model", str),
    "Mask blur": ("mask_blur", float),
    "Mask mode": ("inpainting_mask_invert", lambda text: int(text == "Inpaint not masked")),
    "Masked content": ("inpainting_fill", lambda text: _MASKED_CONTENT.get(text, text)),
    "Masked area padding": ("inpaint_full_res_padding", int),
    **{
        name: ("soft_inpainting" if label == "Soft inpainting" else field_name, kind)
        for (name, (label, kind)), field_name in zip(
            SOFT_INPAINTING.items(), ("soft_inpainting", *SOFT_FIELDS), strict=True
        )
    },
}
_HIRES = ("Hires upscale", "Hires upscaler", "Hires resize-1")
_UNIT = re.compile(r"ControlNet (\d)")
#: what tells of a picture and has no part in it, by how its name begins or ends
_SILENT = re.compile(
    r"(Version|Model|Inpaint area|Batch|Soft inpainting|First pass size|Hypernet).*|.*(hash|hashes)"
)


@dataclass(frozen=True, kw_only=True)
class InfotextParams:
    """The parameters in a text, and what could not be used."""

    params: Params
    #: the checkpoint that it names
    model: str | None
    #: what it tells that no job may have
    refused: list[Refused] = field(default_factory=list)
    #: names and values for which there is no parameter
    left_out: dict[str, str] = field(default_factory=dict)


def read_infotext(text: str) -> InfotextParams:
    """The parameters in A1111's infotext, or the farm's.

    A text without a strength, or with a hires fix, is txt2img's.
    """
    pairs = read_pairs(text)
    values = typed(pairs, _NAMES)
    is_hires = any(name in pairs for name in _HIRES)
    if "Steps" in pairs and (is_hires or "Denoising strength" not in pairs):
        values |= {"txt2img": True} | ({"enable_hr": True} if is_hires else {})
    if "Mask blur" in pairs or "Masked content" in pairs:
        values["inpaint_full_res"] = pairs.get("Inpaint area") == "Only masked"
    if any(isinstance(side, int) and side % CELL for side in (values.get("width"), values.get("height"))):
        values["odd_size"] = True
    if units := _units(pairs):
        values["control"] = units
    refused: list[Refused] = []
    try:
        sampler, _ = split_sampler(pairs.get("Sampler", "Euler"))
        values |= parameters_of(options_of(pairs), sampler, txt2img="txt2img" in values)
    except Refused as error:
        refused.append(error)
    params, found = _without_refused(values)
    return InfotextParams(
        params=params, model=pairs.get("Model"), refused=[*refused, *found], left_out=_left_out(pairs)
    )


def _units(pairs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The control units, without entries that their preprocessors do not take."""
    found = {int(match[1]): pairs[name] for name in pairs if (match := _UNIT.fullmatch(name))}
    return [_unit(found[number]) for number in sorted(found)][:MOST_UNITS]


def _unit(text: str) -> dict[str, Any]:
    told = {name.lower().replace(" ", "_"): value for name, value in split_pairs(text)}
    unit: dict[str, Any] = {name: value for name, value in told.items() if name in ControlUnit.model_fields}
    if module := find_module(told.get("module", "none")):
        own = {
            "processor_res": module.resolution,
            "threshold_a": module.slider_1,
            "threshold_b": module.slider_2,
        }
        for name in own.keys() & unit.keys():
            try:
                number = own[name].taken(float(unit[name]))
            except ValueError:
                continue  # it is refused for what it is
            if number == own[name].value:
                del unit[name]
    return unit


def _without_refused(values: Mapping[str, Any]) -> tuple[Params, list[Refused]]:
    """`values` without those that are refused, and the refusals."""
    refused: list[Refused] = []
    left = dict(values)
    while True:
        try:
            return read_params(left), refused
        except Refused as error:
            found = [error, *error.others]
        refused += found
        named = {name for each in found for name in re.split(r", |\.", each.field)}
        wrong = named & left.keys() or left.keys()
        left = {name: value for name, value in left.items() if name not in wrong}


def _left_out(pairs: Mapping[str, Any]) -> dict[str, str]:
    read = (*_NAMES, *OPTIONS, *_HIRES)
    return {
        name: value
        for name, value in pairs.items()
        if name not in read and not _SILENT.fullmatch(name) and not _UNIT.fullmatch(name)
    }
