"""Turns pydantic's errors into the farm's."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from img2img_shared.errors import Refused
from img2img_shared.param_reference import allowed
from img2img_shared.params import Params
from img2img_shared.suggestions import unknown_name

#: findings that a message tells
TOLD = 20


def read_params(values: dict[str, Any]) -> Params:
    """Params from plain values.

    Raises:
        Refused: names field, value and way out; several are joined in one message.
    """
    try:
        return Params(**values)
    except ValidationError as error:
        raise refusal(error) from None


def refusal(error: ValidationError, prefix: str = "") -> Refused:
    """pydantic's first errors as one ``Refused``: field, value and way out, for each.

    After a prefix in capitals, as of environment variables, the field is in capitals, too.
    """
    items = error.errors(include_url=False)[:TOLD]
    return joined([finding(item, prefix, is_params=error.title == "Params") for item in items])


def joined(findings: Sequence[Refused]) -> Refused:
    """Several refusals as one, with all their messages."""
    first, *rest = findings
    return Refused(first.field, first.value, first.reason, (*first.others, *rest))


def finding(item: Any, prefix: str = "", *, is_params: bool = False) -> Refused:
    """One of pydantic's errors (an item of its ``errors()``), from `Params` or another model."""
    name = prefix + ".".join(str(part) for part in item["loc"])
    return Refused(name.upper() if prefix.isupper() else name, item.get("input"), _reason(item, is_params))


def _reason(item: Any, is_params: bool) -> str:
    *above, name = item["loc"] or ("",)
    is_parameter = is_params or above[-1:] == ["params"]
    match item["type"]:
        case "extra_forbidden" if is_parameter:
            return unknown_name("parameter", name, [*Params.model_fields, "mask_blur"])
        case "extra_forbidden":
            return "unknown field; leave it out"
        case "missing":
            return "give it"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "give an object of fields and values"
        case _ if is_parameter and name in Params.model_fields:
            return f"give {allowed(name)}"
        case "refused":
            return str(item["msg"])
        case "int_parsing" | "int_type" | "int_from_float":
            return "give a whole number"
        case "float_parsing" | "float_type" | "finite_number":
            return "give a number"
        case "bool_parsing" | "bool_type":
            return "give true or false"
        case "string_pattern_mismatch":
            return f"give text of the form {item['ctx']['pattern']}"
    message = str(item["msg"])
    for opening in ("Input should be ", "Value error, "):
        if message.startswith(opening):
            return f"give {message.removeprefix(opening)}"
    return message[:1].lower() + message[1:]
