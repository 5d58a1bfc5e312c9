"""Prompt styles, from a file in A1111's format: name, prompt, negative_prompt."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from img2img_shared.errors import Refused


@dataclass(frozen=True, kw_only=True)
class Style:
    """Texts that are added to prompts, under one name."""

    name: str
    prompt: str
    negative_prompt: str


def read_styles(path: Path | None) -> dict[str, Style]:
    """The styles in a file by name; none if there is no file.

    Raises:
        Refused: it cannot be read.
    """
    if path is None:
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refused("styles_file", str(path), f"make it a readable styles.csv ({error})") from None
    return {
        row["name"]: Style(
            name=row["name"],
            prompt=row.get("prompt") or "",
            negative_prompt=row.get("negative_prompt") or "",
        )
        for row in rows
        if row.get("name")
    }


def apply_styles(
    prompt: str, negative_prompt: str, names: Iterable[str], known: dict[str, Style]
) -> tuple[str, str]:
    """Both prompts with the styles' texts: at ``{prompt}``, or else appended (A1111: `merge_prompts`).

    Raises:
        Refused: there is no such style.
    """
    for name in (name for name in names if name not in ("", "None")):  # what menus send for "no style"
        if name not in known:
            raise Refused(
                "styles",
                name,
                f"give one of {', '.join(known)}" if known else "there are no styles here; leave them out",
            )
        prompt = _merged(known[name].prompt, prompt)
        negative_prompt = _merged(known[name].negative_prompt, negative_prompt)
    return prompt, negative_prompt


def _merged(style: str, prompt: str) -> str:
    if "{prompt}" in style:
        return style.replace("{prompt}", prompt)
    return ", ".join(part for part in (prompt.strip(), style.strip()) if part)
