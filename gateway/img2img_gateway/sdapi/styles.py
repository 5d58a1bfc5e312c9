"""Prompt styles, from a file in A1111's format: name, prompt, negative_prompt; once it was name, text."""

import csv
from collections.abc import Iterable, Mapping
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

    As in A1111, a name that begins with "#" is a comment's, and blanks after a comma do not count.

    Raises:
        Refused: it cannot be read.
    """
    if path is None:
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refused("styles_file", str(path), f"make it a readable styles.csv ({error})") from None
    return {
        row["name"]: Style(
            name=row["name"],
            prompt=row.get("prompt", row.get("text")) or "",
            negative_prompt=row.get("negative_prompt") or "",
        )
        for row in rows
        if row.get("name") and not row["name"].startswith("#")
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


def extract_styles(
    prompt: str, negative_prompt: str, known: Mapping[str, Style]
) -> tuple[list[str], str, str]:
    """(the styles whose texts both prompts have, the prompts without these), as A1111 finds them.

    They are removed one by one, the first in the file that fits, so that to apply them restores the prompts.
    """
    left, found = dict(known), list[str]()
    while True:
        for style in left.values():
            positive = _without(style.prompt, prompt)
            negative = _without(style.negative_prompt, negative_prompt)
            if (style.prompt or style.negative_prompt) and positive is not None and negative is not None:
                break
        else:
            return found[::-1], prompt, negative_prompt
        prompt, negative_prompt = positive, negative
        found.append(style.name)
        del left[style.name]


def _without(style: str, prompt: str) -> str | None:
    """A prompt without a style's text; None: it does not have that."""
    style, stripped = style.strip(), prompt.strip()
    before, place, after = style.partition("{prompt}")
    if place:
        has_it = stripped.startswith(before) and stripped.endswith(after)
        return stripped[len(before) : len(stripped) - len(after)] if has_it else None
    if not stripped.endswith(style):
        return None
    return stripped[: len(stripped) - len(style)].removesuffix(", ")


def _merged(style: str, prompt: str) -> str:
    if "{prompt}" in style:
        return style.replace("{prompt}", prompt)
    return ", ".join(part for part in (prompt.strip(), style.strip()) if part)
