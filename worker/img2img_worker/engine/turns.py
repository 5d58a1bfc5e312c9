"""Whose large pictures go through a VAE while their images wait for a slot."""

from math import inf
from typing import TypeVar

from img2img_worker.models.steps import Steps

T = TypeVar("T")


class Turns:
    """One image's at a time, so that only one takes the memory, unless a more urgent one comes meanwhile."""

    def __init__(self) -> None:
        #: priorities of the images that have begun
        self._begun: list[int] = []

    def take(self, priority: int, steps: Steps[T]) -> Steps[T]:
        """`steps`, once it is their turn."""
        while max(self._begun, default=-inf) >= priority:
            yield
        self._begun.append(priority)
        try:
            return (yield from steps)
        finally:
            self._begun.remove(priority)
