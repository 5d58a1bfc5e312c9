"""What pydantic finds wrong, told as the farm tells it."""

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from img2img_shared.errors import Refused
from img2img_shared.param_reference import allowed
from img2img_shared.params import Params


def read_params(values: dict[str, Any]) -> Params:
    """Params from plain values, refused in one line for each field that is wrong.

    Raises:
        Refused: names field, value and what is allowed; several fields are joined in one message.
    """
    try:
        return Params(**values)
    except ValidationError as error:
        raise refusal(error) from None


def refusal(error: ValidationError, prefix: str = "") -> Refused:
    """pydantic's findings as one ``Refused``: field, value and what is allowed, for each.

    After a prefix in capitals, as environment variables have, the field is in capitals too.
    """
    names = [prefix + _path(item["loc"]) for item in error.errors()]
    first, *rest = [
        Refused(name.upper() if prefix.isupper() else name, item.get("input"), _allowed(item))
        for name, item in zip(names, error.errors(), strict=True)
    ]
    found = Refused(first.field, first.value, "; ".join([first.allowed, *map(str, rest)]))
    found.others = rest
    return found


def _path(location: Iterable[int | str]) -> str:
    return ".".join(str(part) for part in location)


def _allowed(item: Any) -> str:
    name = item["loc"][0] if item["loc"] else ""
    if item["type"] == "extra_forbidden":
        return "no such parameter; known: mask_blur, " + ", ".join(Params.model_fields)
    if len(item["loc"]) == 1 and name in Params.model_fields:
        return allowed(name)
    if item["type"] == "string_pattern_mismatch":
        return f"text of the form {item['ctx']['pattern']}"
    return str(item["msg"]).removeprefix("Input should be ")
