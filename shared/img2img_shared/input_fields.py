"""An input as people write it: a flat map from names to pictures, parameters, a name and a folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from img2img_shared.errors import Refused
from img2img_shared.roles import is_role

#: of an input, beside the roles of its pictures and the names of parameters
PLACES = ("name", "folder")


@dataclass(frozen=True, kw_only=True)
class InputFields:
    """The parts of such a map, unchecked."""

    #: by their roles
    pictures: Mapping[str, Any]
    params: Mapping[str, Any]
    name: Any = None
    folder: Any = None


def sort_fields(fields: Mapping[Any, Any]) -> InputFields:
    """`fields` by their kind: what is neither a picture nor a place is a parameter; None values are dropped.

    ``{"image": ..., "control/0": ..., "prompt": ...}`` is the same as
    ``{"pictures": {"image": ..., "control/0": ...}, "params": {"prompt": ...}}``; the flat entry wins.

    Raises:
        Refused: `pictures` or `params` is not a map.
    """
    pictures, params = _map(fields, "pictures"), _map(fields, "params")
    places: dict[str, Any] = {}
    for name, value in fields.items():
        if name in ("pictures", "params") or value is None:
            continue
        is_picture = is_role(str(name)) or "/" in str(name)
        (places if name in PLACES else pictures if is_picture else params)[str(name)] = value
    return InputFields(pictures=pictures, params=params, **places)


def _map(fields: Mapping[Any, Any], name: str) -> dict[str, Any]:
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Refused(name, value, "give a map of names and values")
    return {str(key): each for key, each in value.items() if each is not None}
