"""Work in short steps, between which others have theirs."""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

#: yields between its steps, and returns what it has made
Steps = Generator[None, None, T]


def at_once(made: T) -> Steps[T]:
    """The steps of what takes none."""
    yield from ()
    return made


def finished(steps: Steps[T]) -> T:
    """What they make, all of them done at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: T = end.value
            return made
