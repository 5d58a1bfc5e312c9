"""How many rows a model call has: from a small set, so that compiled graphs are few, or always the same."""

from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


class Rows:
    """Cuts the rows of a step into model calls.

    Without `fixed`, a call has the least power of two that holds its rows, at most `most`. With it, every
    call has exactly `fixed`: a picture's bits depend on the row count of the calls that made it, and on
    nothing else in them.
    """

    def __init__(self, *, most: int, fixed: int | None = None) -> None:
        if most < 1 or (fixed is not None and fixed < 1):
            raise ValueError(f"row counts {most} and {fixed}; at least 1 is wanted")
        self._fixed = fixed
        self._most = _power_of_two(most)

    def padded(self, n: int) -> int:
        """The row count of a call with `n` rows in use."""
        return self._fixed or _power_of_two(n)

    def calls(self, rows: list[T]) -> Iterator[list[T]]:
        """`rows` in pieces that each fit one call."""
        size = self._fixed or self._most
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()
