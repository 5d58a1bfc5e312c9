"""Scripts in a request: none is here, so that each must ask for nothing; then it is set aside."""

from typing import Any

from img2img_gateway.sdapi.request import RenderRequest
from img2img_shared.errors import Refused

#: A1111's own that have no say over its API: what they would set are fields of the request
_SILENT = frozenset({"seed", "sampler", "comments", "extra options", "hypertile"})
#: how a script's arguments call the switch that turns it on
_SWITCHES = ("enabled", "enable", "is_enabled")


def refuse_scripts(request: RenderRequest) -> None:
    """That no script of a request asks for anything.

    Raises:
        Refused: one does, in A1111's words for a script that it does not have.
    """
    name = request.script_name
    if name and name.lower() != "none":
        raise Refused("script_name", name, f"none: Script '{name}' not found")
    for name, given in request.alwayson_scripts.items():
        if name.lower() not in _SILENT and _asks(given):
            raise Refused("alwayson_scripts", name, f"none: always on script {name} not found")


def _asks(given: Any) -> bool:
    """Whether a script is turned on: by its first argument, or by one of the units that it has."""
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
