"""Reads the always-on script ControlNet in a request, as sd-webui-controlnet 1.1 takes it (API version 3).

Where the extension silently ignores a unit (no network of that name, no picture, an unknown preprocessor),
the request is refused, with the reason.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import ValidationError

from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.request import RenderRequest
from img2img_shared.control import MOST_PICTURES, ControlUnit, control_roles, picture_roles
from img2img_shared.control_modules import Module, find_module
from img2img_shared.errors import Refused, Summary
from img2img_shared.refusals import refusal

#: A1111's name of it, in lower case
SCRIPT = "controlnet"
#: units that count: the extension's option is left at its default
MOST = 3

#: names of fields of older versions, and of Forge
_ALIASES = {
    "guidance": "guidance_end",
    "lowvram": "low_vram",
    "input_image": "image",
    "mask_image": "mask",
}
_OF_PICTURES = frozenset(("image", "input_image", "mask", "mask_image", "effective_region_mask"))
_RESIZE_MODES = {
    "Inner Fit (Scale to Fit)": "Crop and Resize",
    "Scale to Fit (Inner Fit)": "Crop and Resize",
    "Outer Fit (Shrink to Fit)": "Resize and Fill",
    "Envelope (Outer Fit)": "Resize and Fill",
}
#: fields without a part in any picture: of its page, of memory, of other extensions
_SILENT = frozenset(
    {
        "is_ui",
        "batch_images",
        "output_dir",
        "loopback",
        "low_vram",
        "batch_mask_dir",
        "animatediff_batch",
        "batch_modifiers",
        "batch_image_files",
        "batch_keyframe_idx",
    }
)
#: fields that may ask for nothing, and the value that does
_NEUTRAL: dict[str, Any] = {
    "pulid_mode": "Fidelity",
    "ipadapter_input": None,
}


class _UnitPictures(NamedTuple):
    """The pictures of one unit, in base64."""

    #: each with its mask, empty where it has none
    pairs: list[tuple[str, str]]
    region: str

    def by_roles(self, number: int) -> dict[str, str]:
        """The pictures by their roles for unit `number`."""
        found = {control_roles(number)[2]: self.region}
        for roles, pair in zip(picture_roles(number), self.pairs, strict=False):
            found |= dict(zip(roles, pair, strict=True))
        return found


@dataclass(frozen=True, kw_only=True)
class SentUnits:
    """The units of a request that are switched on."""

    units: tuple[ControlUnit, ...] = ()
    #: base64, by their roles
    pictures: dict[str, str] = field(default_factory=dict)

    def under(self, options: Mapping[str, Any]) -> tuple[ControlUnit, ...]:
        """The units; they do not return their control pictures if an option says so."""
        if not options.get("control_net_no_detectmap"):
            return self.units
        return tuple(unit.model_copy(update={"save_detected_map": False}) for unit in self.units)


def forget_pictures(scripts: Mapping[str, Any]) -> None:
    """Remove the pictures of units from a request, when they have been stored: it may wait for hours."""
    for name, given in scripts.items():
        units = given.get("args", []) if isinstance(given, dict) and name.lower() == SCRIPT else []
        for unit in units:
            for field_name in _OF_PICTURES & unit.keys() if isinstance(unit, dict) else ():
                unit[field_name] = None


def control_info(*, img2img: bool) -> dict[str, Any]:
    """A1111's description of the script: a unit with its defaults, for each that there is."""
    unit = {
        **{name: each.default for name, each in ControlUnit.model_fields.items()},
        "enabled": False,
        "image": None,
        "mask": None,
        "effective_region_mask": None,
        "low_vram": False,
        "processor_res": -1,
        "threshold_a": -1,
        "threshold_b": -1,
        "save_detected_map": True,
        **_NEUTRAL,
    }
    rest = {"minimum": None, "maximum": None, "step": None, "choices": None}
    arguments = [{"label": "", "value": unit, **rest} for _ in range(MOST)]
    return {"name": SCRIPT, "is_alwayson": True, "is_img2img": img2img, "args": arguments}


def control_units(request: RenderRequest, lenient: Leniency) -> SentUnits:
    """The units of a request.

    Raises:
        Refused: names the unit's field.
    """
    units: list[ControlUnit] = []
    pictures: dict[str, str] = {}
    for name, given in request.alwayson_scripts.items():
        if name.lower() != SCRIPT:
            continue
        for number, sent in enumerate(_arguments(name, given)):
            where = f"alwayson_scripts.{name}.args[{number}]"
            if not isinstance(sent, dict) or not sent.get("enabled"):
                if isinstance(sent, dict) and "enabled" not in sent and _asks(sent):
                    why = 'it is off, as in the extension; send "enabled": true with it'
                    lenient.set_aside(where, Summary("a unit without enabled"), why)
                continue
            if number >= MOST:
                lenient.set_aside(where, "a unit", f"only the first {MOST} units count, as in A1111")
                continue
            for unit, own in _units(dict(sent), where, lenient):
                pictures |= own.by_roles(len(units))
                units.append(unit)
    sent_pictures = {role: picture for role, picture in pictures.items() if picture}
    return SentUnits(units=tuple(units), pictures=sent_pictures)


def _asks(sent: Mapping[str, Any]) -> bool:
    """Whether a unit names a network or a preprocessor."""
    return any(str(sent.get(name) or "none").lower() != "none" for name in ("module", "model"))


def _arguments(name: str, given: Any) -> list[Any]:
    arguments = given.get("args", []) if isinstance(given, dict) else given
    if not isinstance(arguments, list):
        raise Refused(f"alwayson_scripts.{name}.args", arguments, "give a list of units")
    return arguments


def _units(
    sent: dict[str, Any], where: str, lenient: Leniency
) -> Iterator[tuple[ControlUnit, _UnitPictures]]:
    """The units with their pictures; one for each picture of a unit that merges several, as the extension."""
    for alias, name in _ALIASES.items():
        if alias in sent:
            if sent.get(name) is not None:
                raise Refused(
                    f"{where}.{alias}", sent[alias], f"it is the same as {name}; give one of the two"
                )
            sent[name] = sent.pop(alias)
    pairs = _pictures(sent.pop("image", None), sent.pop("mask", None), where)
    mode = sent.pop("input_mode", "simple")
    if mode not in ("simple", "merge"):
        reason = (
            "give simple or merge; batch reads a folder of A1111's server. For a picture per frame, submit a "
            "job of many inputs, each with its control picture: POST /v1/jobs, or "
            "img2img render DIR --control canny=DIR"
        )
        raise Refused(f"{where}.input_mode", mode, reason)
    region = sent.pop("effective_region_mask", None) or ""
    if not isinstance(region, str):
        raise Refused(f"{where}.effective_region_mask", region, "give a picture as base64")
    for name, value in _NEUTRAL.items():
        if sent.pop(name, value) != value:
            raise Refused(
                f"{where}.{name}", Summary("another value"), f"only {value!r} is supported here; leave it out"
            )
    module = find_module(str(sent.get("module", "none")))
    if module is None:
        raise Refused(f"{where}.module", sent["module"], "give a module of GET /controlnet/module_list")
    values = {"save_detected_map": True, **_known(sent, where, lenient)}
    values = {name: _value(name, value, module, where, lenient) for name, value in values.items()}
    try:
        unit = ControlUnit.model_validate(values)
    except ValidationError as error:
        raise refusal(error, f"{where}.") from None
    except Refused as refused:
        raise refused.under(f"{where}.") from None
    if module.is_image_prompt or len(pairs) <= 1:
        yield unit, _UnitPictures(pairs, region)
    elif mode == "merge":
        for pair in pairs:
            share = unit.model_copy(update={"weight": unit.weight / len(pairs)})
            yield share, _UnitPictures([pair], region)
    else:
        reason = "only IP-Adapters take several; give one, or input_mode merge"
        raise Refused(f"{where}.image", Summary(f"{len(pairs)} pictures"), reason)


def _known(sent: Mapping[str, Any], where: str, lenient: Leniency) -> dict[str, Any]:
    """The fields that affect a picture; unknown others are warned of."""
    known = ControlUnit.model_fields.keys()
    for name, value in sent.items():
        if name not in known and name not in _SILENT and name != "enabled":
            lenient.set_aside(f"{where}.{name}", value, "there is no such field")
    return {name: value for name, value in sent.items() if name in known}


def _value(name: str, value: Any, module: Module, where: str, lenient: Leniency) -> Any:
    """A field's value as the farm's unit has it."""
    if name == "resize_mode" and isinstance(value, str):
        return _RESIZE_MODES.get(value, value)
    sliders = {
        "processor_res": module.resolution,
        "threshold_a": module.slider_1,
        "threshold_b": module.slider_2,
    }
    slider = sliders.get(name)
    if slider is None or isinstance(value, bool) or not isinstance(value, int | float):
        return value
    value = int(value) if name == "processor_res" else value
    if slider.taken(value) == value:
        return value
    # clients send numbers of their own for modules that take none
    is_told = value != -1 and slider in module.sliders
    why = f"out of range for {module.name}, which takes {slider.value}, as in A1111"
    lenient.set_aside(f"{where}.{name}", value, why, told=is_told)
    return None


def _pictures(image: Any, mask: Any, where: str) -> list[tuple[str, str]]:
    """Pictures, each with its mask, which is empty if there is none.

    A picture and its mask may be sent together, as a pair or as a map of both. There may be several of these.
    """
    if isinstance(image, list) and image and all(isinstance(each, dict) for each in image):
        sent = image
    elif isinstance(image, list) and len(image) == 2:
        sent = [{"image": image[0], "mask": image[1]}]
    elif isinstance(image, dict):
        sent = [image]
    else:
        sent = [{"image": image, "mask": mask}]
    if len(sent) > MOST_PICTURES:
        raise Refused(f"{where}.image", Summary(f"{len(sent)} pictures"), f"give at most {MOST_PICTURES}")
    return [
        pair for each in sent if any(pair := (_picture(each, "image", where), _picture(each, "mask", where)))
    ]


def _picture(sent: Mapping[str, Any], name: str, where: str) -> str:
    picture = sent.get(name)
    if picture is not None and not isinstance(picture, str):
        raise Refused(f"{where}.{name}", picture, "give one picture as base64, or a map of image and mask")
    if picture and name == "mask" and not sent.get("image"):
        raise Refused(
            f"{where}.mask", Summary("a picture"), "it needs an image of the unit; give both or neither"
        )
    return picture or ""
