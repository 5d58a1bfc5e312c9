"""How requests and answers look, for the reference at ``/docs``."""

from typing import Any

from pydantic import ConfigDict

REFERENCE = "inputs/" + "0123456789abcdef" * 4
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="

JOB = "0a32dddf8136d8fc"
MOMENT = "2026-03-01T12:00:00Z"


def example(facts: dict[str, Any]) -> ConfigDict:
    """A model's configuration with an example for the reference."""
    return ConfigDict(json_schema_extra={"examples": [facts]})
