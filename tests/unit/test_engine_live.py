"""A sampler that looks at the answers has its calls in the batch of all others."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from img2img_worker.engine import state
from img2img_worker.engine.engine import Engine, Pixels, Render
from img2img_worker.sampling.levels import Array, NoiseLevels
from img2img_worker.sampling.live import LivePlan
from img2img_worker.sampling.plan import Plan, compile_plan
from img2img_worker.sampling.plan_key import PlanKey
from img2img_worker.sampling.vectors import LiveNoise, LiveSteps
from tests.unit.engine_toys import ToyFamily, render

Sampler = Callable[..., LiveSteps]


def euler(x: Tensor, noise: LiveNoise, *, sigmas: Array) -> LiveSteps:
    for sigma, sigma_next in zip(sigmas.tolist(), [*sigmas[1:].tolist(), 0.0], strict=True):
        answer = yield x, sigma
        x = x + (x - answer) / sigma * (sigma_next - sigma)
    return x


def until_it_settles(x: Tensor, noise: LiveNoise, *, sigmas: Array) -> LiveSteps:
    """Goes down by a fifth of sigma at a time, or faster where the answer hardly changes."""
    sigma, before = float(sigmas[0]), x
    while sigma > 0.1:
        answer = yield x, sigma
        down = 0.3 if (answer - before).abs().mean() < 0.05 else 0.8
        x = answer + (x - answer) * down + 0.01 * noise(sigma, sigma * down)
        sigma, before = sigma * down, answer
    return x


def broken(x: Tensor, noise: LiveNoise, *, sigmas: Array) -> LiveSteps:
    yield x, float(sigmas[0])
    raise ArithmeticError("no way to go")


@pytest.fixture
def family() -> ToyFamily:
    return ToyFamily()


@pytest.fixture(autouse=True)
def live(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedules that say which sampler is run instead of Euler."""
    samplers: dict[str, Sampler] = {"Simple": euler, "Normal": until_it_settles, "Beta": broken}

    def plan_of(key: PlanKey, levels: NoiseLevels) -> Plan | LivePlan:
        plan = compile_plan(key, levels)
        if key.scheduler not in samplers:
            return plan
        return LivePlan(
            sampler=partial(samplers[key.scheduler], sigmas=plan.sigmas),
            first=(1.0, float(plan.sigmas[0])),
            levels=levels,
            expected=key.steps,
            last_sigma=0.1,
        )

    monkeypatch.setattr(state, "plan_of", plan_of)


def run(engine: Engine, renders: list[Render]) -> list[Pixels]:
    return [future.result(60) for future in [engine.submit(each) for each in renders]]


def masked() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    mask = np.zeros((8, 8), np.float32)
    mask[2:5, 3:7] = 1
    return mask


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("mask", [None, masked()], ids=["whole", "masked"])
def test_it_gives_the_picture_that_its_plan_would(
    family: ToyFamily, prediction: str, mask: np.ndarray[tuple[int, int], np.dtype[np.float32]] | None
) -> None:
    family.prediction = "v" if prediction == "v" else "epsilon"
    each = render(3, steps=9, scheduler="Simple", mask=mask)
    key = PlanKey.of(each.params)
    with Engine(family) as engine:
        (found,) = run(engine, [each])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(state, "plan_of", lambda _key, levels: compile_plan(key, levels))
            (planned,) = run(engine, [each])
    assert np.abs(found.astype(int) - planned).max() <= 1


def test_its_calls_are_shared_and_its_picture_is_the_same_in_any_company(family: ToyFamily) -> None:
    renders = [render(n, scheduler=("Normal", "Uniform")[n % 2], steps=5 + n) for n in range(6)]
    with Engine(family, slots=1) as engine:
        alone = run(engine, renders)
        calls = engine.counts.image_calls
    with Engine(family, slots=6, deterministic=False) as engine:
        together = run(engine, renders)
        counts = engine.counts
    assert counts.image_calls == calls
    assert counts.calls < calls / 2
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_how_far_it_is_is_told_as_far_as_it_can_be(family: ToyFamily) -> None:
    told: list[tuple[int, int]] = []
    with Engine(family) as engine:
        engine.submit(render(1, scheduler="Normal", steps=4), lambda *at: told.append(at)).result(60)
    done, total = told[-1]
    assert done == total > 4
    assert all(of == max(4, done + 1) for done, of in told[:-1])


def test_one_that_fails_on_its_way_fails_alone(family: ToyFamily) -> None:
    good = render(2)
    with Engine(family, slots=1) as engine:
        (expected,) = run(engine, [good])
    with Engine(family, slots=2) as engine:
        bad, other = engine.submit(render(1, scheduler="Beta")), engine.submit(good)
        with pytest.raises(ArithmeticError, match="no way to go"):
            bad.result(60)
        assert np.array_equal(other.result(60), expected)


def test_short_memory_puts_it_back_and_it_goes_on(family: ToyFamily) -> None:
    renders = [render(n, scheduler="Normal", steps=6) for n in range(4)]
    with Engine(family, slots=1, deterministic=False) as engine:
        alone = run(engine, renders)
    short = iter([False] * 5 + [True])

    def before(*_: object) -> None:
        if next(short, False):
            raise torch.OutOfMemoryError("no room")

    family.before = before
    with Engine(family, slots=4, deterministic=False) as engine:
        together = run(engine, renders)
        assert engine.limit < 4
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
