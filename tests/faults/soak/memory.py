"""The memory, over time, of processes that live throughout."""

from collections.abc import Callable
from dataclasses import dataclass

#: bytes that a process may have more in the last third of the time than in the middle one: noise
RATIO, BYTES = 1.1, 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Growth:
    """One process' memory, in bytes: the medians of the second and the last third of the time."""

    process: str
    middle: int
    last: int

    @property
    def grows(self) -> bool:
        """Whether it is more than noise."""
        return self.last > RATIO * self.middle + BYTES

    def __str__(self) -> str:
        return f"{self.middle / 2**20:.0f} MB, {self.last / 2**20:.0f} MB (× {self.last / self.middle:.3f})"


class Memory:
    """Measures processes by their names: each tells the bytes that it holds, 0 while it is away."""

    def __init__(self, **processes: Callable[[], int]) -> None:
        self._processes = processes
        self._seen: dict[str, list[int]] = {name: [] for name in processes}

    def look(self) -> None:
        """One measurement of each."""
        for name, held in self._processes.items():
            if size := held():
                self._seen[name].append(size)

    def growths(self) -> list[Growth]:
        """The processes that were measured often enough."""
        found = []
        for name, seen in self._seen.items():
            third = len(seen) // 3
            if third:
                middle, last = sorted(seen[third : 2 * third]), sorted(seen[2 * third :])
                found.append(Growth(process=name, middle=middle[len(middle) // 2], last=last[len(last) // 2]))
        return found
