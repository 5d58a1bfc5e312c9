"""Every parameter of a render as a command-line option, made from `Params`' own fields."""

import inspect
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from img2img_shared.errors import Refused
from img2img_shared.param_fields import GROUPS
from img2img_shared.param_reference import choices, description, schema_of, span
from img2img_shared.params import Params


def with_parameters(
    command: Callable[..., None], names: Collection[str] = tuple(Params.model_fields)
) -> Callable[..., None]:
    """`command`, whose argument `parameters` is what was given of --steps, --width and all the others.

    Args:
        names: the parameters that have options.
    """
    mine = inspect.signature(command, eval_str=True).parameters.values()
    options = [
        option
        for heading, group in GROUPS.items()
        for name in group.model_fields
        if name in names
        for option in _options(name, heading)
    ]

    def run(**values: Any) -> None:
        given = {option.name: values.pop(option.name) for option in options}
        command(**values, parameters=_parameters(given))

    kept = [each for each in mine if each.name != "parameters"]
    signature = inspect.Signature([*kept, *options])
    run.__signature__ = signature  # type: ignore[attr-defined]  # what typer reads; a function may have one
    run.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def read_params_file(path: Path | None) -> dict[str, Any]:
    """The parameters in a JSON file, by their names; none without a file.

    Raises:
        Refused: it cannot be read, or is not one JSON object.
    """
    if path is None:
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))  # as Windows' editors begin it
    except OSError as error:
        raise Refused("params", str(path), f"cannot be read ({error.strerror}); give a JSON file") from None
    except UnicodeDecodeError:
        raise Refused("params", str(path), "give a file of JSON, saved as UTF-8") from None
    except ValueError as error:
        raise Refused("params", str(path), f"give a file of valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise Refused("params", str(path), 'give a file with one JSON object, such as {"steps": 30}')
    return values


def _options(name: str, panel: str) -> Iterator[inspect.Parameter]:
    """A parameter's option; of a switch two, of which the help shows the one that changes the default.

    A list has none: it is in a file of parameters, or has an option of its own.
    """
    if schema_of(name)["type"] == "array":
        return
    kind = _TYPES[schema_of(name)["type"]]
    words = name.replace("_", "-")
    if kind is bool:
        default = Params.model_fields[name].default
        yield _option(name, bool, panel, f"--{words}", help=_help(name), hidden=default)
        help_off = f"Turn off: {_help(name)}"
        yield _option(_OFF + name, bool, panel, f"--no-{words}", help=help_off, hidden=not default)
    else:
        complete = _completing(known) if (known := choices(name)) else None
        yield _option(name, kind, panel, f"--{words}", help=_help(name), autocompletion=complete)
    if name == "mask_blur_y":
        yield _option("mask_blur", float, panel, "--mask-blur", help="Both of the above.")


def _option(name: str, kind: Any, panel: str, *words: str, **more: Any) -> inspect.Parameter:
    option = typer.Option(*words, metavar=" ", rich_help_panel=panel, show_default=False, **more)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _completing(choices: Iterable[object]) -> Callable[[str], list[str]]:
    """What gives a shell those of `choices` that begin like a word."""

    def complete(incomplete: str) -> list[str]:
        found = [text for text in map(str, choices) if text.casefold().startswith(incomplete.casefold())]
        return [text.replace(" ", "\\ ") for text in found] if _takes_it_as_written() else found

    return complete


def _takes_it_as_written() -> bool:
    """Whether it is bash that asks, outside of quotes: it would make two words of "KL Optimal"."""
    word = os.environ.get("COMP_WORDS", "").rpartition("\n")[2]
    return os.environ.get("_IMG2IMG_COMPLETE") == "complete_bash" and not word.startswith(('"', "'"))


def _parameters(given: dict[str, Any]) -> dict[str, Any]:
    """What was given, by the names of parameters."""
    values: dict[str, Any] = {}
    for option, value in given.items():
        name = option.removeprefix(_OFF)
        if value is not None and name in values:
            raise Refused(name, True, f"give --{name} or --no-{name}, not both".replace("_", "-"))
        if value is not None:
            values[name] = option == name if value is True else value
    return values


def _help(name: str) -> str:
    """ "How much changes: 0 runs one step, 1 runs the whole schedule. (0 to 1; default 0.75)" """
    default = schema_of(name).get("default")
    has_default = default not in (None, "") and not isinstance(default, bool)
    told = [span(name), f"default {default}" if has_default else ""]
    ending = "; ".join(filter(None, told))
    return escape(f"{description(name)} ({ending})" if ending else description(name))


#: before the name of an option that turns a switch off
_OFF = "off_"
_TYPES: dict[str, Any] = {"integer": int, "number": float, "boolean": bool, "string": str}
