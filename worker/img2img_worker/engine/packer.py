"""Which rows share a model call, and how many rows a call has."""

from collections.abc import Sequence


class BatchPacker:
    """Chooses the rows of a model call among those that its images want answered.

    By default images share calls of up to `most` rows. With `compiled`, a call is filled up to the next row
    count for which there is a graph. With `own`, an image has so many of its rows in a call, or all that are
    left of them, in any company: only whole parts share calls.
    """

    def __init__(self, *, most: int, compiled: bool = False, own: int | None = None) -> None:
        if any(rows is not None and rows < 1 for rows in (most, own)):
            raise ValueError(f"row counts {most} and {own}; at least 1 is wanted")
        self._most = most
        self._own = own
        self._counts: tuple[int, ...] = ()
        if compiled:
            self._counts = (1, 2) if own else _counts(most)

    @property
    def counts(self) -> tuple[int, ...]:
        """The row counts that calls are filled up to; empty: to none."""
        return self._counts

    def pack(self, wanted: Sequence[int]) -> list[int]:
        """How many rows of each image go into the next call.

        Args:
            wanted: how many rows each image wants answered; those that waited longest come first. One of many
                rows has no more than its part of the call while the others want theirs.
        """
        if self._own is not None:
            return self._whole_parts(wanted, self._own)
        free = self._most
        part = max(2, self._most // max(1, len(wanted)))
        packed = [0] * len(wanted)
        for limit in (part, self._most):
            for number, rows in enumerate(wanted):
                more = max(0, min(rows - packed[number], limit - packed[number], free))
                packed[number] += more
                free -= more
        return packed

    def _whole_parts(self, wanted: Sequence[int], own: int) -> list[int]:
        free = self._most
        packed = []
        for rows in wanted:
            part = min(rows, own)
            packed.append(part if part <= free else 0)
            free -= packed[-1]
        return packed

    def padding(self, rows: int) -> int:
        """How many rows are to be added to a call of so many."""
        return next((count - rows for count in self._counts if count >= rows), 0)


def _counts(most: int) -> tuple[int, ...]:
    """1, 2, 3, 4, 6, 8, 12, ...: at most a third of a call is padding, and graphs are few."""
    steps = [1, *(count for k in range(most.bit_length()) for count in (2 << k, 3 << k))]
    return (*(count for count in sorted(steps) if count < most), most)
