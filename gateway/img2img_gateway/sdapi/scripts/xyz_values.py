"""Parses the values of an axis of A1111's "X/Y/Z plot"."""

import csv
import io
import math
import re
from collections.abc import Sequence
from typing import Any

from img2img_gateway.sdapi.request import MOST_IMAGES
from img2img_shared.errors import Refused

_NUMBER = {int: r"[+-]?\d+", float: r"[+-]?\d+(?:\.\d*)?"}


def written(values: Sequence[str]) -> str:
    """Values as a line, separated by commas, as `split` reads them."""
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue().strip()


def split(text: str) -> list[str]:
    """The values of a line, separated by commas; one that contains a comma is in quotes."""
    try:
        rows = list(csv.reader(io.StringIO(text), skipinitialspace=True))
    except csv.Error:
        return [text.strip()]
    return [value.strip() for row in rows for value in row]


def numbers(text: str, kind: type[int] | type[float], field: str) -> list[Any]:
    """One number, or all numbers of a range.

    >>> numbers("1-5 (+2)", int, "x"), numbers("1-10 [4]", int, "x"), numbers("0.5-1 (+0.25)", float, "x")
    ([1, 3, 5], [1, 4, 7, 10], [0.5, 0.75, 1.0])

    Raises:
        Refused: names `field`: it is neither, or there are too many.
    """
    number = _NUMBER[kind]
    span = re.fullmatch(rf"\s*({number})\s*-\s*({number})\s*(?:\(([+-]{number})\)|\[(\d+)\])?\s*", text)
    try:
        if span is None:
            return [kind(text)]
        start, end = kind(span[1]), kind(span[2])
        if span[4] is not None:
            return [kind(each) for each in _spread(start, end, _few(int(span[4]), text, field))]
        step = kind(span[3] or 1)
        count = math.ceil((end + step - start) / step) if step else 0
    except (ValueError, OverflowError):
        raise Refused(field, text, "give numbers, or ranges such as 1-5, 1-5 (+2) or 1-10 [4]") from None
    return [start + step * i for i in range(_few(max(count, 0), text, field))]


def _spread(start: float, end: float, count: int) -> list[float]:
    """`count` numbers at equal distances."""
    if count < 2:
        return [start][:count]
    return [*(start + (end - start) / (count - 1) * i for i in range(count - 1)), end]


def _few(count: int, text: str, field: str) -> int:
    if count > MOST_IMAGES:
        raise Refused(field, text, f"it names {count:,} values: a plot has at most {MOST_IMAGES:,} pictures")
    return count
