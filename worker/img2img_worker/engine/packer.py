"""Which rows share a model call, and how many rows a call has."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeVar

T = TypeVar("T")


class BatchPacker:
    """Cuts the rows of a step into model calls.

    By default all images share calls, of the least power of two that holds their rows, so that compiled
    graphs are few. With `fixed`, every call has that many rows: then a row's bits do not depend on what
    else is in the call (on a GPU, and on a CPU with one thread; with several, odd latent sizes were seen
    to depend on the row's place, by 3e-6). With `apart`, an image's rows are a call of their own, which
    leaves nothing to depend on.
    """

    def __init__(self, *, most: int, fixed: int | None = None, apart: bool = False) -> None:
        if most < 1 or (fixed is not None and fixed < 1):
            raise ValueError(f"row counts {most} and {fixed}; at least 1 is wanted")
        self._fixed = fixed
        self._apart = apart
        self._most = fixed or _power_of_two(most)

    @property
    def is_fixed(self) -> bool:
        """Whether every call has the same number of rows."""
        return self._fixed is not None

    @property
    def counts(self) -> tuple[int, ...]:
        """The row counts that calls have; with `apart`, those of plain guidance."""
        if self._fixed is not None:
            return (self._fixed,)
        return (1, 2) if self._apart else tuple(1 << k for k in range(self._most.bit_length()))

    def calls(self, images: Sequence[Sequence[T]]) -> Iterator[tuple[list[T], int]]:
        """The rows of each call, and how many are to be added to them.

        Args:
            images: the rows of each image.
        """
        for rows in images if self._apart else [list(chain.from_iterable(images))]:
            for start in range(0, len(rows), self._most):
                call = list(rows[start : start + self._most])
                yield call, self._padded(len(call)) - len(call)

    def _padded(self, n: int) -> int:
        if self._fixed is not None:
            return self._fixed
        return n if self._apart else _power_of_two(n)


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()
