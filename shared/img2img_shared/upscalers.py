"""Upscalers by A1111's names."""

from typing import Annotated

from pydantic import AfterValidator, Field

#: those that need no file. "None" is Lanczos without the detour that A1111's "Lanczos" takes, by sides that
#: are multiples of 8
BUILT_IN = ("None", "Lanczos", "Nearest")
_BY_LOWER = {name.lower(): name for name in BUILT_IN}


def is_network(name: str | None) -> bool:
    """Whether an upscaler is a file's, and not one of those that every worker has."""
    return name is not None and name not in BUILT_IN


def _spelled(name: str) -> str:
    return _BY_LOWER.get(name.lower(), name)


#: a built-in one's name, in any case, or a file's
UpscalerName = Annotated[
    str,
    Field(min_length=1, max_length=255, json_schema_extra={"x-files": "upscaler"}),
    AfterValidator(_spelled),
]
