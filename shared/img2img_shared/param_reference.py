"""The allowed values of each parameter in words: for refusals, the command line and docs/parameters.md."""

from collections.abc import Iterable
from enum import IntEnum
from functools import cache
from typing import Any

from pydantic import BaseModel

from img2img_shared.control_modules import MODULES
from img2img_shared.hires import LATENT_UPSCALERS
from img2img_shared.param_fields import SWITCHES
from img2img_shared.params import Params
from img2img_shared.samplers import SAMPLERS, SCHEDULERS
from img2img_shared.upscaler_names import BUILT_IN

#: ends of a range beyond which it says no more than that the number is stored in 64 bits
TELLING = 2**53

#: values of what is a text to the schema; of those that name files, the ones that need none
_KNOWN: dict[str, Iterable[str]] = {
    "sampler_name": SAMPLERS,
    "scheduler": SCHEDULERS,
    "hr_sampler_name": SAMPLERS,
    "hr_scheduler": SCHEDULERS,
    "hr_upscaler": (*LATENT_UPSCALERS, *BUILT_IN),
    "vae": ("Automatic", "None"),
    "module": MODULES,
    "model": ("None",),
}


@cache
def _whole_schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


@cache
def schema_of(name: str, model: type[BaseModel] = Params) -> dict[str, Any]:
    """The JSON schema of one parameter, without references, and without null if it may be None.

    Args:
        model: the model that has the field.
    """
    schema = _whole_schema(model)
    found = schema["properties"][name]
    kinds = [kind for kind in found.get("anyOf", [found]) if kind.get("type") != "null"]
    reference = str(kinds[0].get("$ref", "")).rpartition("/")[2]
    return {**schema.get("$defs", {}).get(reference, {}), **kinds[0], **found}


def description(name: str, model: type[BaseModel] = Params) -> str:
    """What a parameter does, in a sentence."""
    return str(model.model_fields[name].description)


def title(name: str, model: type[BaseModel] = Params) -> str:
    """The label of a parameter in a form: A1111's, where that is not just its name.

    >>> title("denoising_strength"), title("subseed")
    ('Denoising strength', 'Variation seed')
    """
    return model.model_fields[name].title or name.capitalize().replace("_", " ")


def choices(name: str, model: type[BaseModel] = Params) -> dict[Any, str]:
    """The allowed values, if these are a list, and what they stand for in words; of a range, none."""
    kind = model.model_fields[name].annotation
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return {mode.value: mode.name.capitalize().replace("_", " ") for mode in kind}
    schema = schema_of(name, model)
    known = schema.get("enum") or _KNOWN.get(name) or (BUILT_IN if files(name, model) == "upscaler" else ())
    return {value: str(value) for value in known}


def files(name: str, model: type[BaseModel] = Params) -> str | None:
    """The kind of workers' files that a parameter names, or None."""
    kind = schema_of(name, model).get("x-files")
    return None if kind is None else str(kind)


def switch_of(name: str) -> str | None:
    """The parameter that must be on for this one to have a meaning, or None."""
    return next((switch for switch, names in SWITCHES.items() if name in names), None)


def allowed(name: str) -> str:
    """The allowed values, to follow "give": "a whole number from 1 to 150"."""
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
    """The allowed range in short, for tables: "1 to 150"; empty if the type says it all."""
    schema = schema_of(name)
    if "enum" in schema:
        return ", ".join(_choices(name))
    if "minimum" not in schema or max(-schema["minimum"], schema["maximum"]) > TELLING:
        return ""
    return _ends(name) + (f", a multiple of {schema['multipleOf']}" if "multipleOf" in schema else "")


def _ends(name: str) -> str:
    schema = schema_of(name)
    least, most = schema["minimum"], schema["maximum"]
    return f"{least} to {most}" if schema["type"] == "integer" else f"{least:g} to {most:g}"


def _choices(name: str) -> list[str]:
    """Its values; a number is followed by what it stands for."""
    return [
        meaning if isinstance(value, str) else f"{value} ({meaning.lower()})"
        for value, meaning in choices(name).items()
    ]
