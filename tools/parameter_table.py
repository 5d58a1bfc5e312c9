"""Writes docs/parameters.md from the declarations of the parameters: ``python -m tools.parameter_table``."""

from pathlib import Path
from typing import Any

from img2img_shared.param_fields import GROUPS
from img2img_shared.param_reference import description, schema_of, span
from img2img_shared.params import Params

FILE = Path(__file__).parents[1] / "docs" / "parameters.md"

_HEAD = """# Parameters

All parameters of a render, with AUTOMATIC1111's names, defaults and meaning. They are the same on the
command line (`--denoising-strength 0.4`), in Python (`denoising_strength=0.4`), over HTTP and in a file for
`--params`.
`mask_blur` is short for `mask_blur_x` and `mask_blur_y`.

This file is generated from the declarations in
[param_groups](../shared/img2img_shared/param_groups): `python -m tools.parameter_table`.
"""


_KINDS = {"boolean": "true, false", "string": "text", "integer": "a whole number"}


def table() -> str:
    """The content of the file."""
    return "\n".join([_HEAD, *(_group(heading, group.model_fields) for heading, group in GROUPS.items())])


def _group(heading: str, names: Any) -> str:
    rows = [
        f"| `{name}` | {_cell(description(name))} | {_values(name)} | {_default(name)} | {_example(name)} |"
        for name in names
    ]
    return "\n".join(
        [
            f"## {heading}",
            "",
            "| name | meaning | values | default | example |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _values(name: str) -> str:
    kind = schema_of(name).get("type")
    return _cell(span(name)) or {"boolean": "true, false", "string": "text", "integer": "a whole number"}.get(
        str(kind), ""
    )


def _default(name: str) -> str:
    default = schema_of(name).get("default")
    return "" if default in (None, "", []) else f"`{_plain(default)}`"


def _example(name: str) -> str:
    return f"`{_plain((Params.model_fields[name].examples or [''])[0])}`"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")


if __name__ == "__main__":
    FILE.write_text(table())
