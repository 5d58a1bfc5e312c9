"""Runs several recipes side by side."""

from collections.abc import Sequence
from typing import TypeVar

from img2img_worker.engine.render import Render
from img2img_worker.farm.render_steps import RenderSteps

T = TypeVar("T")


def side_by_side(ways: Sequence[RenderSteps[T]]) -> RenderSteps[list[T]]:
    """The results of all `ways`; their first renders run side by side, then their second ones, and so on."""
    ends: dict[int, T] = {}
    wanted: dict[int, Sequence[Render]] = {}
    for number, way in enumerate(ways):
        try:
            wanted[number] = next(way)
        except StopIteration as end:
            ends[number] = end.value
    while wanted:
        answers = iter((yield [render for renders in wanted.values() for render in renders]))
        asked, wanted = wanted, {}
        for number, renders in asked.items():
            try:
                wanted[number] = ways[number].send([next(answers) for _ in renders])
            except StopIteration as end:
                ends[number] = end.value
    return [ends[number] for number in range(len(ways))]
