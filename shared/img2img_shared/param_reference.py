"""What each parameter may be, in words: for refusals, the command line and docs/parameters.md."""

from enum import IntEnum
from functools import cache
from typing import Any

from img2img_shared.params import Params

#: ends of a range beyond which it says no more than that the number is stored in 64 bits
_TELLING = 2**53


@cache
def _whole_schema() -> dict[str, Any]:
    return Params.model_json_schema()


@cache
def schema_of(name: str) -> dict[str, Any]:
    """The JSON schema of one parameter, without references; of one that may be None, as if it were not."""
    schema = _whole_schema()
    found = schema["properties"][name]
    kinds = [kind for kind in found.get("anyOf", [found]) if kind.get("type") != "null"]
    reference = str(kinds[0].get("$ref", "")).rpartition("/")[2]
    return {**schema.get("$defs", {}).get(reference, {}), **kinds[0], **found}


def description(name: str) -> str:
    """What a parameter does, in a sentence."""
    return str(Params.model_fields[name].description)


def allowed(name: str) -> str:
    """What a parameter may be, as after "give": "a whole number from 1 to 150"."""
    schema = schema_of(name)
    if "enum" in schema:
        return f"one of {', '.join(_choices(name))}"
    if schema["type"] == "boolean":
        return "true or false"
    if schema["type"] == "string":
        return f"text of at most {schema['maxLength']:,} characters"
    if schema["type"] == "array":
        return f"a list of at most {schema['maxItems']}, each a JSON object"
    if "multipleOf" in schema:
        return f"a multiple of {schema['multipleOf']} from {_ends(name)}"
    return f"a {'whole ' if schema['type'] == 'integer' else ''}number from {_ends(name)}"


def span(name: str) -> str:
    """The same in short, as in a table: "1 to 150"; empty where the type says it all."""
    schema = schema_of(name)
    if "enum" in schema:
        return ", ".join(_choices(name))
    if "minimum" not in schema or max(-schema["minimum"], schema["maximum"]) > _TELLING:
        return ""
    return _ends(name) + (f", a multiple of {schema['multipleOf']}" if "multipleOf" in schema else "")


def _ends(name: str) -> str:
    schema = schema_of(name)
    least, most = schema["minimum"], schema["maximum"]
    return f"{least} to {most}" if schema["type"] == "integer" else f"{least:g} to {most:g}"


def _choices(name: str) -> list[str]:
    """Its values; a number with what it stands for."""
    modes = Params.model_fields[name].annotation
    if isinstance(modes, type) and issubclass(modes, IntEnum):
        return [f"{mode.value} ({mode.name.lower().replace('_', ' ')})" for mode in modes]
    return [str(value) for value in schema_of(name)["enum"]]
