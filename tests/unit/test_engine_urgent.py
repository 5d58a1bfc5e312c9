"""An urgent picture takes a slot from one that is under way, which loses nothing by it."""

import threading
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np
import pytest

from img2img_worker.engine.engine import Engine, Render
from img2img_worker.engine.state import OnStep
from tests.unit.engine_toys import ToyFamily, render


@pytest.fixture
def family() -> ToyFamily:
    return ToyFamily()


def renders(n: int) -> list[Render]:
    samplers = ("Euler a", "DPM adaptive", "DPM++ 2M", "Heun")
    return [
        render(i, prompt="a lazy cat", steps=12, sampler_name=samplers[i % 4], denoising_strength=0.9)
        for i in range(n)
    ]


def _note_end(ended: list[int], number: int, _: Future[Any]) -> None:
    ended.append(number)


@pytest.mark.parametrize("deterministic", [True, False])
def test_what_gave_its_slot_to_an_urgent_one_is_to_the_byte_what_it_is_undisturbed(
    family: ToyFamily, deterministic: bool
) -> None:
    low, urgent = renders(4), render(9, prompt="a fire", steps=5)
    with Engine(family, slots=1, deterministic=True) as engine:
        alone = [engine.submit(each).result(60) for each in (*low, urgent)]
    ended: list[int] = []
    steps: list[int] = []
    is_there, may_go = threading.Event(), threading.Event()

    def wait_for_urgent(done: int, _total: int) -> None:
        if done == 3:
            is_there.set()
            may_go.wait(60)

    def noted(number: int) -> OnStep:
        return lambda *_: steps.append(number)

    with Engine(family, slots=2, deterministic=deterministic) as engine:
        futures: list[Future[Any]] = [engine.submit(low[0], wait_for_urgent)]
        futures += [engine.submit(each, noted(number)) for number, each in enumerate(low[1:], 1)]
        assert is_there.wait(60)
        calls = engine.counts.image_calls
        futures.append(engine.submit(urgent, noted(9), priority=1))
        for number, future in zip((0, 1, 2, 3, 9), futures, strict=True):
            future.add_done_callback(partial(_note_end, ended, number))
        before = len(steps)
        may_go.set()
        together = [future.result(60) for future in futures]
    assert calls < 12
    assert ended[0] == 9
    own = [place for place, number in enumerate(steps) if number == 9]
    assert own == [*range(own[0], own[0] + len(own))]  # the others rested
    assert own[0] - before <= 1  # one that was in the same call as the one that was held
    for found, wanted in zip(together, alone, strict=True):
        if deterministic:
            assert np.array_equal(found, wanted)
        assert np.abs(found.astype(int) - wanted).max() <= 1


def test_its_prompt_is_encoded_before_those_of_others_that_wait(family: ToyFamily) -> None:
    is_there, may_go = threading.Event(), threading.Event()

    def hold(done: int, _total: int) -> None:
        is_there.set()
        may_go.wait(60)

    with Engine(family, slots=1) as engine:
        first = engine.submit(render(0, prompt="first", steps=2), hold)
        assert is_there.wait(60)
        family.texts.clear()
        futures = [engine.submit(render(i, prompt=f"low {i}", steps=2)) for i in range(1, 4)]
        futures.append(engine.submit(render(4, prompt="urgent", steps=2), priority=5))
        may_go.set()
        for future in (first, *futures):
            future.result(60)
    assert family.texts[0] == ("urgent",)
