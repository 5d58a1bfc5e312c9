"""Which images are in flight, in which groups, and whose turn it is. Knows nothing of tensors."""

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

#: turns without an out-of-memory error after which the limit doubles again
RECOVERY = 200


def _alike(_: Hashable) -> int:
    return 0


class Scheduler(Generic[T]):
    """Images wait in the order they came, enter a group when a slot is free, and leave when they are done.

    A group holds those whose next rows can share a model call; an image may move from one to another. A turn
    is one call, for the group of the image that waited longest, so none starves.

    The higher of two priorities goes first: it takes a slot from the lower one, which rests meanwhile.
    """

    def __init__(self, most: int, priority: Callable[[T], int] = _alike) -> None:
        if most < 1:
            raise ValueError(f"{most} slots; at least 1 is wanted")
        self._most = most
        self.limit = most
        self._priority = priority
        #: of one priority the oldest first
        self._waiting: list[T] = []
        # by when they got their slot: a dict keeps order
        self._group_of: dict[T, Hashable] = {}
        #: the turn in which each last had a part
        self._served: dict[T, int] = {}
        #: those that want no turn any more
        self._resting: set[T] = set()
        #: whose turn the last was
        self._group: Hashable = None
        self._turns = 0
        self._calm_since = 0

    def __len__(self) -> int:
        """How many are in flight."""
        return len(self._group_of)

    def __bool__(self) -> bool:
        """Whether anything waits or is in flight."""
        return bool(self._group_of or self._waiting)

    @property
    def waiting(self) -> tuple[T, ...]:
        """Those that have no slot (yet), the next one first."""
        return tuple(self._waiting)

    @property
    def in_flight(self) -> tuple[T, ...]:
        """Those that have one, by when they got it."""
        return tuple(self._group_of)

    def wait(self, item: T) -> None:
        """A new one, behind all others of its priority."""
        self._waiting.append(item)
        self._waiting.sort(key=self._rank)

    def next_up(self, most: int | None = None) -> list[T]:
        """Takes the first that wait, as many as there are free slots. Each must `enter`, or be dropped.

        Those that would have no turn for now stay where they are.

        Args:
            most: no more than so many.
        """
        in_flight = [self._rank(item) for item in self._group_of]
        last = min([*in_flight, *map(self._rank, self._waiting[:1])], default=0)
        ready = sum(self._rank(item) <= last for item in self._waiting)
        number = max(0, min(self.limit - len(self), ready if most is None else min(ready, most)))
        up, self._waiting = self._waiting[:number], self._waiting[number:]
        return up

    def put_back(self, items: Iterable[T]) -> None:
        """Before those that wait with the same priority, in the order given."""
        self._waiting = sorted([*items, *self._waiting], key=self._rank)

    def outranked(self) -> list[T]:
        """Those whose slots others need that wait with a higher priority: of the lowest, the youngest.

        Returns:
            those that must `leave` and be put back, oldest first.
        """
        by_rank = sorted(self._group_of, key=self._rank)
        free = max(0, self.limit - len(self))
        going = 0
        for item in self._waiting[free:]:
            if going == len(by_rank) or self._rank(item) >= self._rank(by_rank[-1 - going]):
                break
            going += 1
        return by_rank[len(by_rank) - going :]

    def enter(self, item: T, group: Hashable) -> None:
        """It is in flight from now on."""
        self._group_of[item] = group
        self._served[item] = self._turns

    def move(self, item: T, group: Hashable) -> None:
        """It is in that group from now on; it has waited as long as it has."""
        self._group_of[item] = group

    def rest(self, item: T) -> None:
        """It keeps its slot, and has no turn any more."""
        self._resting.add(item)

    def leave(self, item: T) -> None:
        """Its slot is free."""
        del self._group_of[item], self._served[item]
        self._resting.discard(item)

    def turn(self, *, stays: bool = False) -> list[T]:
        """The group of the one that waited longest, those first that did; empty if nothing wants a turn.

        Args:
            stays: the group that had the last turn has this one, too, if anything is left of it.
        """
        awake = [item for item in self._group_of if item not in self._resting]
        if not awake:
            return []
        self._turns += 1
        if self.limit < self._most and self._turns - self._calm_since >= RECOVERY:
            self._calm_since = self._turns
            self.limit = min(2 * self.limit, self._most)
        first = min(map(self._rank, awake))
        ready = [item for item in awake if self._rank(item) == first]
        if not stays or all(self._group_of[item] != self._group for item in ready):
            self._group = self._group_of[min(ready, key=self._served.__getitem__)]
        members = [item for item in ready if self._group_of[item] == self._group]
        return sorted(members, key=self._served.__getitem__)

    def served(self, items: Iterable[T]) -> None:
        """They had a part in this turn."""
        for item in items:
            self._served[item] = self._turns

    def halve(self) -> list[T]:
        """After an out-of-memory error: half of those in flight, or about to be, must go, as in `outranked`.

        Returns:
            those that must `leave` and be put back, oldest first; empty if one or none is in flight.
        """
        self._calm_since = self._turns
        self.limit = max(1, min(self.limit, len(self) + len(self._waiting)) // 2)
        return sorted(self._group_of, key=self._rank)[self.limit :]

    def _rank(self, item: T) -> int:
        """Lower goes first."""
        return -self._priority(item)
