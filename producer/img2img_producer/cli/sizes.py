"""The size of the results, as a command line asks for it: the pictures' own, unless it says otherwise."""

import re
from collections.abc import Mapping
from typing import Any

from img2img_shared.errors import Refused

_SIZES = ("width", "height", "fit")


def with_size(
    file: Mapping[str, Any], options: Mapping[str, Any], size: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters of a file and those of options, which between them say one size.

    Args:
        size: of ``--size``: "768x512".

    Raises:
        Refused: two sizes, half of one, or none that could be read.
    """
    below, given = dict(file), dict(options)
    if size is not None:
        if found := [name for name in _SIZES if name in given]:
            raise Refused("size", size, f"give --size or --{found[0]}, not both")
        given |= _sides(size)
    if any(name in given for name in _SIZES):
        below = {name: value for name, value in below.items() if name not in _SIZES}
    asked = {
        name: value for name, value in {**below, **given}.items() if name in _SIZES and value is not None
    }
    if not asked:
        given["fit"] = 0
    elif len(asked) == 1 and "fit" not in asked:
        ((name, value),) = asked.items()
        other = "height" if name == "width" else "width"
        raise Refused(name, value, f"give {other} too, or --fit {value}, which keeps the pictures' shapes")
    return below, given


def _sides(text: str) -> dict[str, int]:
    if not (match := re.fullmatch(r"(\d{2,4})[x×](\d{2,4})", text.strip().lower())):
        raise Refused("size", text, "give width and height in pixels, such as 768x512")
    return {"width": int(match[1]), "height": int(match[2])}
