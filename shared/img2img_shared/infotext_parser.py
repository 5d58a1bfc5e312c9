"""Parses A1111's infotext, the text in a picture file, into names and values, as A1111 does."""

import json
import re
from typing import Any

from img2img_shared.infotext_versions import with_inferred

#: what a name is made of, and what it begins with; and the value behind its colon, up to the next comma
_NAME, _BEGINNING = re.compile(r"[\w \-/]*"), re.compile(r"\w")
_VALUE = re.compile(r'\s*("(?:\\.|[^\\"])++"|[^,]*)(?:,|$)')
#: a last line with fewer pairs is part of the prompt
_FEWEST = 3
_NEGATIVE = "Negative prompt:"


def read_pairs(text: str) -> dict[str, Any]:
    """An infotext's names and values, including the prompts; "Size: 512x768" becomes Size-1 and Size-2.

    Values are as they are written, but for those that older versions said otherwise (`with_inferred`).

    >>> read_pairs("a cat\\nNegative prompt: a dog\\nSteps: 20, Sampler: Euler, Size: 512x768")["Size-2"]
    '768'
    """
    *lines, last = text.strip().split("\n")
    pairs = split_pairs(last)
    if len(pairs) < _FEWEST:
        lines, pairs = [*lines, last], []
    found: dict[str, str] = {}
    for name, value in pairs:
        plain = _unquoted(value)
        if size := re.match(r"(\d+)x(\d+)$", plain):
            found |= {f"{name}-1": size[1], f"{name}-2": size[2]}
        elif plain:
            found[name] = plain
    prompt, negative = _prompts([line.strip() for line in lines])
    return with_inferred({**found, "Prompt": prompt, "Negative prompt": negative})


def split_pairs(line: str) -> list[tuple[str, str]]:
    """The names and values in a line, as A1111's pattern finds them, in time linear in the line's length.

    >>> split_pairs('Steps: 20, Hashes: "a: 1, b: 2"')
    [('Steps', '20'), ('Hashes', '"a: 1, b: 2"')]
    """
    found: list[tuple[str, str]] = []
    start, colon = 0, line.find(":")
    while colon >= 0:
        end_of_name = _NAME.match(line[start:colon][::-1])
        name = line[colon - (end_of_name.end() if end_of_name else 0) : colon]
        begins = _BEGINNING.search(name)
        start = colon + 1
        if begins and len(name) > begins.start() + 1 and (value := _VALUE.match(line, start)):
            found.append((name[begins.start() :], value[1]))
            start = value.end()
        colon = line.find(":", start)
    return found


def quoted(value: object) -> str:
    """A value as it is written in an infotext: in quotes if it contains what ends a value or a name.

    >>> quoted("a, b"), quoted(2.0)
    ('"a, b"', '2.0')
    """
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text


def _prompts(lines: list[str]) -> tuple[str, str]:
    """The positive and the negative prompt; the latter starts at a line of its own that says so."""
    begins = next((i for i, line in enumerate(lines) if line.startswith(_NEGATIVE)), len(lines))
    negative = [line.removeprefix(_NEGATIVE).strip() for line in lines[begins:]]
    return "\n".join(lines[:begins]), "\n".join(negative)


def _unquoted(value: str) -> str:
    if not (value.startswith('"') and value.endswith('"')):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value
