"""An urgent picture takes a slot from one that is under way, which loses nothing by it."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest

from img2img_worker.engine import loop
from img2img_worker.engine.engine import Engine, Render
from img2img_worker.engine.pace import Pace
from img2img_worker.engine.state import OnStep
from img2img_worker.models.prompts.text_encoder import Encoded
from img2img_worker.models.steps import Steps
from tests.unit.engine_toys import ToyFamily, render
from tests.unit.toy_device import ToyDevice, ToyMark


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


@dataclass(kw_only=True)
class WaitingFamily(ToyFamily):
    """One that has to wait for its device before it knows what an urgent text means."""

    device_mark: ToyMark = field(default_factory=ToyMark)
    began: threading.Event = field(default_factory=threading.Event)

    def encode_prompts(self, prompts: Sequence[str], **more: Any) -> Steps[list[Encoded]]:
        if prompts[0] == "urgent":
            self.began.set()
            yield self.device_mark
        return (yield from super().encode_prompts(prompts, **more))


class Beside:
    """An engine of one slot, which something has when something urgent comes; and whose step each was."""

    def __init__(self, family: WaitingFamily) -> None:
        self.steps: list[str] = []
        self._is_there, self._may_go = threading.Event(), threading.Event()
        self.engine = Engine(family, slots=1, deterministic=False)
        self.low = self._submit("low", self._low_step, 0, steps=8)
        self.urgent: Future[Any] = Future()

    def come(self) -> None:
        """Something urgent comes after four steps of the other."""
        assert self._is_there.wait(60)
        self.urgent = self._submit("urgent", lambda *_: self.steps.append("urgent"), 1, steps=3)
        self._may_go.set()

    def go(self) -> None:
        """The other does not wait for it at its fourth step."""
        self._may_go.set()

    def expect(self, *priorities: int) -> None:
        """Something of these priorities will come, after four steps of the other."""
        assert self._is_there.wait(60)
        for priority in priorities:
            self.engine.expect(priority)

    def _submit(self, prompt: str, on_step: OnStep, priority: int, steps: int) -> Future[Any]:
        wanted = render(0, prompt=prompt, steps=steps, denoising_strength=1)
        return self.engine.submit(wanted, on_step, priority=priority)

    def _low_step(self, done: int, _total: int) -> None:
        self.steps.append("low")
        if done == 4:
            self._is_there.set()
            self._may_go.wait(60)


def test_it_gets_ready_while_the_device_is_still_in_anothers_call(monkeypatch: pytest.MonkeyPatch) -> None:
    device, family = ToyDevice(), WaitingFamily()
    device.ticks = 0.1
    monkeypatch.setattr(loop, "Pace", lambda _: device.pace)

    def before(*_: object) -> None:
        device.give(10.0)
        if len(family.rows) == 4:
            device.ticks = 0.0  # for as long as the test wants, the device is in this call

    family.before = before
    family.device_mark.passed.set()
    beside = Beside(family)
    with beside.engine:
        beside.go()
        assert device.stood_still.wait(60)
        beside.come()
        assert family.began.wait(60)
        assert beside.steps == ["low"] * 4
        device.ticks = 0.1
        beside.low.result(60)
        beside.urgent.result(60)
    assert beside.steps == ["low"] * 4 + ["urgent"] * 3 + ["low"] * 4


def test_calls_of_others_wait_for_one_that_is_soon_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    family = WaitingFamily(device_mark=ToyMark(asked=5))
    monkeypatch.setattr(loop, "Pace", lambda _: Pace(ToyDevice().record))
    monkeypatch.setattr(loop, "HOLD", 1e9)
    beside = Beside(family)
    with beside.engine:
        beside.come()
        assert family.device_mark.was_asked.wait(60)
        assert beside.steps == ["low"] * 4
        family.device_mark.passed.set()
        beside.low.result(60)
        beside.urgent.result(60)
    assert beside.steps == ["low"] * 4 + ["urgent"] * 3 + ["low"] * 4


def test_so_they_do_for_one_that_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    family, device = WaitingFamily(), ToyDevice()
    family.device_mark.passed.set()
    monkeypatch.setattr(loop, "Pace", lambda _: device.pace)
    monkeypatch.setattr(loop, "HOLD", 1e9)
    beside = Beside(family)
    with beside.engine:
        beside.expect(1, 0)
        device.stood_still.clear()
        beside.go()
        assert device.stood_still.wait(60)
        assert beside.steps == ["low"] * 4
        beside.come()
        beside.low.result(60)
        beside.urgent.result(60)
    assert beside.steps == ["low"] * 4 + ["urgent"] * 3 + ["low"] * 4


def test_but_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    family = WaitingFamily()
    monkeypatch.setattr(loop, "Pace", lambda _: Pace(ToyDevice().record))
    beside = Beside(family)
    with beside.engine:
        beside.come()
        beside.engine.expect(2)
        beside.low.result(60)
        assert not beside.urgent.done()
        family.device_mark.passed.set()
        beside.urgent.result(60)
    assert beside.steps == ["low"] * 8 + ["urgent"] * 3
