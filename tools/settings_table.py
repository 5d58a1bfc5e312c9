"""Writes docs/settings.md from the declarations of the settings: ``python -m tools.settings_table``."""

import inspect
import re
from pathlib import Path
from typing import Any

from img2img_gateway.gateway_settings import GatewaySettings
from img2img_shared.durations import write_duration
from img2img_shared.settings import Settings

FILE = Path(__file__).parents[1] / "docs" / "settings.md"

_HEAD = """# Settings

All settings are environment variables; command-line options override them. Durations (`KEEP…`) are written
30d, 12h, 45m, 90s, or forever. `data_dir` in lower case means the setting of that name (`IMG2IMG_DATA_DIR`).

This file is generated from the declarations in [settings.py](../shared/img2img_shared/settings.py) and
[gateway_settings.py](../gateway/img2img_gateway/gateway_settings.py): `python -m tools.settings_table`.
"""
#: a field, with the comment lines before it
_FIELD = re.compile(r"((?:    #: .*\n(?:    #  ?.*\n|    #: .*\n)*)?)    ([a-z_]+): ")
#: defaults that depend on the machine
_ELSEWHERE = {"data_dir": "~/.img2img", "owner": "the login"}


def table() -> str:
    """The content of the file."""
    own = [name for name in GatewaySettings.model_fields if name not in Settings.model_fields]
    return "\n".join(
        [
            _HEAD,
            _section("Every program", Settings, list(Settings.model_fields)),
            _section("The gateway", GatewaySettings, own),
        ]
    )


def _section(heading: str, settings: type[Settings], names: list[str]) -> str:
    meanings = dict(_meanings(settings))
    rows = [f"| `IMG2IMG_{name.upper()}` | {meanings[name]} | {_default(settings, name)} |" for name in names]
    return "\n".join([f"## {heading}", "", "| variable | meaning | default |", "|---|---|---|", *rows, ""])


def _meanings(settings: type[Settings]) -> list[tuple[str, str]]:
    found = _FIELD.findall(inspect.getsource(settings))
    return [(name, _cell(re.sub(r"\s*#:\s*", " ", comment))) for comment, name in found]


def _default(settings: type[Settings], name: str) -> str:
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    default: Any = settings.model_fields[name].default
    if name in ("keep", "keep_uploads", "keep_orphans"):
        return f"`{write_duration(default)}`"
    return (
        ""
        if default in (None, "", ())
        else f"`{str(default).lower() if default in (True, False) else default}`"
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    FILE.write_text(table())
