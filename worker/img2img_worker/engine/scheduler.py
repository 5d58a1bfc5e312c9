"""Decides which images are in flight, in which groups, and whose turn it is. It knows nothing of tensors."""

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

#: turns without an out-of-memory error after which the limit doubles again
RECOVERY = 200


def _alike(_: Hashable) -> int:
    return 0


class Scheduler(Generic[T]):
    """Images wait in the order in which they came, enter a group when a slot is free, and leave when done.

    A group holds the images whose next rows can share a model call; an image may move to another group. A
    turn is one call, for the group of the image that waited longest, so no image starves.

    A higher priority goes first, and takes slots from a lower one, whose images wait meanwhile.
    """

    def __init__(self, most: int, priority: Callable[[T], int] = _alike) -> None:
        if most < 1:
            raise ValueError(f"{most} slots; at least 1 is wanted")
        self._most = most
        self.limit = most
        self._priority = priority
        #: by priority, and the oldest first
        self._waiting: list[T] = []
        #: in the order in which they got their slots
        self._group_of: dict[T, Hashable] = {}
        #: the last turn that each had
        self._served: dict[T, int] = {}
        #: images in flight that get no more turns
        self._resting: set[T] = set()
        #: the group that had the last turn
        self._group: Hashable = None
        self._turns = 0
        self._calm_since = 0

    def __len__(self) -> int:
        """How many images are in flight."""
        return len(self._group_of)

    def __bool__(self) -> bool:
        """Whether any image waits or is in flight."""
        return bool(self._group_of or self._waiting)

    @property
    def waiting(self) -> tuple[T, ...]:
        """The images without a slot, the next one first."""
        return tuple(self._waiting)

    @property
    def in_flight(self) -> tuple[T, ...]:
        """The images with a slot, in the order in which they got it."""
        return tuple(self._group_of)

    def wait(self, item: T) -> None:
        """Have a new image wait, behind all others of its priority."""
        self._waiting.append(item)
        self._waiting.sort(key=self._rank)

    def next_up(self, most: int | None = None) -> list[T]:
        """Take the first waiting images, as many as there are free slots. Each must `enter`, or be dropped.

        Images that would get no turn for now keep waiting.

        Args:
            most: how many at most.
        """
        in_flight = [self._rank(item) for item in self._group_of]
        last = min([*in_flight, *map(self._rank, self._waiting[:1])], default=0)
        ready = sum(self._rank(item) <= last for item in self._waiting)
        number = max(0, min(self.limit - len(self), ready if most is None else min(ready, most)))
        up, self._waiting = self._waiting[:number], self._waiting[number:]
        return up

    def put_back(self, items: Iterable[T]) -> None:
        """Have images wait again, before all others of their priority, in the given order."""
        self._waiting = sorted([*items, *self._waiting], key=self._rank)

    def outranked(self) -> list[T]:
        """Images whose slots are needed by waiting ones of a higher priority: the youngest of the lowest.

        Returns:
            the images that must `leave` and be put back, oldest first.
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
        """Put an image in flight."""
        self._group_of[item] = group
        self._served[item] = self._turns

    def move(self, item: T, group: Hashable) -> None:
        """Move an image to another group; its place in the order of turns stays."""
        self._group_of[item] = group

    def rest(self, item: T) -> None:
        """Give an image no more turns; it keeps its slot."""
        self._resting.add(item)

    def leave(self, item: T) -> None:
        """Free an image's slot."""
        del self._group_of[item], self._served[item]
        self._resting.discard(item)

    def turn(self, *, stays: bool = False) -> list[T]:
        """The group of the image that waited longest, in the order of waiting; empty: no image wants a turn.

        Args:
            stays: the group that had the last turn gets this one, too, if any of it is left.
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
        """Note that images had a part in this turn."""
        for item in items:
            self._served[item] = self._turns

    def halve(self) -> list[T]:
        """Halve the limit after an out-of-memory error.

        Returns:
            the images that must `leave` and be put back, oldest first; empty if at most one is in flight.
        """
        self._calm_since = self._turns
        self.limit = max(1, min(self.limit, len(self) + len(self._waiting)) // 2)
        return sorted(self._group_of, key=self._rank)[self.limit :]

    def _rank(self, item: T) -> int:
        """The place of an item's priority in the order: lower goes first."""
        return -self._priority(item)
