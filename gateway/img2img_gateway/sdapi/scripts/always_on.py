"""Scripts beside a render: soft inpainting, ControlNet (see `control_units`); others must be switched off."""

from typing import Any

from img2img_gateway.sdapi.control_units import SCRIPT
from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.request import Img2ImgRequest, RenderRequest
from img2img_shared.errors import Refused
from img2img_shared.param_reference import schema_of

#: A1111's own that have no say over its API: what they would set are fields of the request
_SILENT = frozenset({"seed", "sampler", "comments", "extra options", "hypertile"})
#: read by a module of its own
_ELSEWHERE = frozenset({SCRIPT})
#: how a script's arguments call the switch that turns it on
_SWITCHES = ("enabled", "enable", "is_enabled")

#: A1111's name of its script
SOFT_INPAINTING = "soft inpainting"
#: its arguments, in their order: their labels, and the parameters that they set
_SOFT_ARGUMENTS = {
    "Soft inpainting": "soft_inpainting",
    "Schedule bias": "mask_blend_power",
    "Preservation strength": "mask_blend_scale",
    "Transition contrast boost": "inpaint_detail_preservation",
    "Mask influence": "composite_mask_influence",
    "Difference threshold": "composite_difference_threshold",
    "Difference contrast": "composite_difference_contrast",
}

#: of the sliders that A1111's page has for them
_STEPS = {
    "Schedule bias": 0.1,
    "Preservation strength": 0.05,
    "Transition contrast boost": 0.5,
    "Mask influence": 0.05,
    "Difference threshold": 0.25,
    "Difference contrast": 0.25,
}


def script_parameters(request: RenderRequest, lenient: Leniency) -> dict[str, Any]:
    """The parameters that are set by the scripts beside a request's render.

    Raises:
        Refused: there is no such script; in A1111's words.
    """
    found: dict[str, Any] = {}
    for name, given in request.alwayson_scripts.items():
        if name.lower() == SOFT_INPAINTING and isinstance(request, Img2ImgRequest):
            found |= _soft_inpainting(given, lenient)
        elif name.lower() == "refiner" and _asks(given):
            why = "A1111's API has it do nothing; send refiner_checkpoint and refiner_switch_at"
            lenient.set_aside("alwayson_scripts", name, why)
        elif name.lower() not in _ELSEWHERE and name.lower() not in _SILENT and _asks(given):
            reason = f"always on script {name} not found; leave it out, or turn it off"
            raise Refused("alwayson_scripts", name, reason)
    return found


def script_info() -> list[dict[str, Any]]:
    """The scripts and their arguments, as A1111 lists them."""
    arguments = [
        {
            "label": label,
            "value": schema_of(field)["default"],
            "minimum": schema_of(field).get("minimum"),
            "maximum": schema_of(field).get("maximum"),
            "step": _STEPS.get(label),
            "choices": None,
        }
        for label, field in _SOFT_ARGUMENTS.items()
    ]
    return [{"name": SOFT_INPAINTING, "is_alwayson": True, "is_img2img": True, "args": arguments}]


def _soft_inpainting(given: Any, lenient: Leniency) -> dict[str, Any]:
    """Its arguments, by position (with defaults for those left out) or by label."""
    arguments = given.get("args", []) if isinstance(given, dict) else given
    if isinstance(arguments, list):
        if arguments and isinstance(arguments[0], dict):
            why = "labels belong into args itself; in a list, as in A1111, they turn it on and no more"
            lenient.set_aside("alwayson_scripts.soft inpainting.args", arguments[0], why)
        arguments = dict(zip(_SOFT_ARGUMENTS, arguments, strict=False))
    if not isinstance(arguments, dict) or not arguments.keys() <= _SOFT_ARGUMENTS.keys():
        reason = f"give a list of {', '.join(_SOFT_ARGUMENTS)}, or a map of them by these labels"
        raise Refused("alwayson_scripts.soft inpainting.args", arguments, reason)
    if not arguments.pop("Soft inpainting", False):
        return {}
    for label, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refused(f"alwayson_scripts.soft inpainting.{label}", value, "give a number")
    return {"soft_inpainting": True} | {_SOFT_ARGUMENTS[label]: value for label, value in arguments.items()}


def _asks(given: Any) -> bool:
    """Whether a script is switched on: by its first argument, or by one of its units."""
    arguments = given.get("args", []) if isinstance(given, dict) else given
    if isinstance(arguments, dict):
        arguments = list(arguments.values()) if not _is_unit(arguments) else [arguments]
    if not isinstance(arguments, list):
        return bool(arguments)
    units = [each for each in arguments if _is_unit(each)]
    if units and len(units) == len(arguments):
        return any(_is_on(unit) for unit in units)
    return bool(arguments) and arguments[0] not in (False, None, "", "None")


def _is_unit(argument: Any) -> bool:
    return argument is None or isinstance(argument, dict)


def _is_on(unit: Any) -> bool:
    if not unit:
        return False
    return all(unit.get(switch) is not False for switch in _SWITCHES)
