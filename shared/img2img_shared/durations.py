"""Durations as people write them: "30d", "12h", "45m", "90s", a number of seconds, or "forever"."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

from img2img_shared.errors import Refused

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WORDS = "write 30d, 12h, 45m, 90s, or forever"
#: seconds; a hundred years
_LONGEST = 100 * 366 * 86_400
_LONGEST_TEXT = 40


def read_duration(value: Any, field: str = "keep") -> float | None:
    """A duration in seconds; None for "forever".

    >>> read_duration("30d"), read_duration("90"), read_duration("forever")
    (2592000.0, 90.0, None)

    Raises:
        Refused: it is not a duration, or longer than a hundred years.
    """
    if value is None or value == "forever":
        return None
    match = re.fullmatch(r"\s{0,9}(\d{1,12}(?:\.\d{1,6})?)([smhd]?)\s{0,9}", str(value))
    if isinstance(value, bool) or match is None or not isinstance(value, str | int | float):
        raise Refused(field, value, _WORDS)
    seconds = float(match[1]) * _UNITS[match[2] or "s"]
    if seconds > _LONGEST:
        raise Refused(field, value, f"{_WORDS}; a hundred years is the longest")
    return seconds


def write_duration(seconds: float | None) -> str:
    """A duration as people write it.

    >>> write_duration(2592000), write_duration(5400), write_duration(None)
    ('30d', '90m', 'forever')
    """
    if seconds is None:
        return "forever"
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def _validate(value: Any) -> Any:
    try:
        return read_duration(value)
    except Refused as error:
        raise ValueError(error.reason) from None


#: seconds; None: for ever
Duration = Annotated[
    float | None,
    BeforeValidator(
        _validate, json_schema_input_type=float | Annotated[str, Field(max_length=_LONGEST_TEXT)] | None
    ),
    PlainSerializer(write_duration, return_type=str),
]
