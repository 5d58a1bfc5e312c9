"""Turns pydantic's errors into the farm's."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from img2img_shared.errors import Refused, WireError
from img2img_shared.param_reference import allowed
from img2img_shared.params import Params
from img2img_shared.settings import DEVICES
from img2img_shared.suggestions import unknown_name

#: findings that a message tells
TOLD = 20
#: what is asked for by patterns that people meet
_IN_WORDS = {
    r"^[^\x00-\x1f\x7f-\x9f]+$": "text in one line",
    r"^[^\s,\x00-\x1f\x7f-\x9f]{1,64}$": "a word of at most 64 characters, without spaces or commas",
    r"^(forever|[0-9.]+[smhd]?)$": "30d, 12h, 45m, 90s, or forever",
    r"^[^\x00-\x1f\x7f-\x9f]{1,200}$": "text of at most 200 characters, in one line",
    r"^[A-Za-z0-9_-]{8,64}$": "8 to 64 letters, digits, hyphens or underscores",
    r"^[A-Za-z0-9_.-]{1,32}$": "1 to 32 letters, digits, hyphens, underscores or dots",
    r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$": "1 to 64 letters, digits, -, _ or ., with no dot first",
    r"^[0-9a-f]{64}$": "a SHA-256: 64 of the digits 0-9 and a-f",
    r"^[0-9a-f]{8}$": "a key's id: 8 of the digits 0-9 and a-f",
    r"^(image|mask|control/\d{1,2})$": "image, mask, control/0, control/1, ...",
    r"^(mask|mask-composite|(control|loop)-\d{1,3})?$": "mask, mask-composite, control-0, loop-0, ...",
    r"^\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*$": "numbers and ranges of images: 0,3,7-12",
    r"^\d{1,20}-\d{1,20}$": "the id of an event, as it was sent",
    r"^\d{1,16}$": "the id of an event, as it was sent",
    r"^https?://": "a URL with http:// or https://",
    r"^(auto|\d{2,4}x\d{2,4})$": "WIDTHxHEIGHT in pixels, or auto",
    r"^\d{2,4}x\d{2,4}(,\d{2,4}x\d{2,4})*$": "sizes in pixels: 512x512,768x512",
    r"^(\S+:\d{1,5})?$": "HOST:PORT",
    rf"^({DEVICES})$": "auto, cpu, mps, xpu, cuda, or cuda:0 and so on, several with commas between them",
}
_LIMITS = {"ge": "at least", "le": "at most", "gt": "more than", "lt": "less than"}


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


def unread(kind: str, error: ValidationError | Refused) -> WireError:
    """What to raise for a message of ours that a newer version has written: its writer has checked it."""
    if isinstance(error, ValidationError):
        items = error.errors(include_url=False)[:TOLD]
        unknown = [".".join(map(str, item["loc"])) for item in items if item["type"] == "extra_forbidden"]
        told = f"{', '.join(unknown)} unknown here" if unknown else str(refusal(error))
    else:
        told = str(error)
    return WireError(f"{kind}: this version cannot read it ({told}); update it to the one that wrote it")


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
            pattern = item["ctx"]["pattern"]
            return f"give {_IN_WORDS.get(pattern, f'text of the form {pattern}')}"
        case "greater_than_equal" | "less_than_equal" | "greater_than" | "less_than":
            ((limit, value),) = item["ctx"].items()
            return f"give {_LIMITS[limit]} {value}"
        case "string_too_short":
            least = item["ctx"]["min_length"]
            return "give some text" if least == 1 else f"give at least {least} characters"
        case "string_too_long":
            return f"give at most {item['ctx']['max_length']:,} characters"
    message = str(item["msg"])
    for opening in ("Input should be ", "Value error, "):
        if message.startswith(opening):
            return f"give {message.removeprefix(opening)}"
    return message[:1].lower() + message[1:]
