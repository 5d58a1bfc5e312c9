"""DPM adaptive: its steps are those of the published code, which looks at the answers."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_worker.engine.engine import Engine
from img2img_worker.sampling import dpm_solver
from img2img_worker.sampling.dpm_solver import dpm_adaptive
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.live import LivePlan, plan_of
from img2img_worker.sampling.plan import Plan
from img2img_worker.sampling.plan_key import PlanKey
from img2img_worker.sampling.vectors import LiveSteps
from tests.unit.engine_toys import ToyFamily, render

LEVELS = NoiseLevels.from_alphas_cumprod(np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2))
SHAPE = (4, 6, 6)
MIX = torch.randn(4, 4, generator=torch.Generator().manual_seed(1)) * 0.7

Denoise = Callable[[Tensor, float], Tensor]


def denoised(x: Tensor, sigma: float) -> Tensor:
    seen = torch.einsum("ij,jhw->ihw", MIX, x / math.sqrt(sigma**2 + 1))
    return x - sigma * torch.tanh(1.5 * seen + math.sin(sigma))


def noises(seed: int) -> Iterator[Tensor]:
    stream = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(SHAPE, generator=stream)


def run(steps: LiveSteps, model: Denoise = denoised) -> tuple[Tensor, int]:
    """(last latent, model calls)"""
    calls = 0
    try:
        call = next(steps)
        while True:
            calls += 1
            call = steps.send(model(*call))
    except StopIteration as end:
        return end.value, calls


def reference(x: Tensor, high: float, low: float, eta: float, draws: Iterator[Tensor]) -> tuple[Tensor, int]:
    """In log-SNR time, with the controller of step lengths in its general form."""
    s, end, h = -math.log(high), -math.log(low), 0.05
    previous, calls = x, 0
    order = 1.5 if eta else 3.0
    while s < end - 1e-5:
        t = min(end, s + h)
        up, t_down = 0.0, t
        if eta:
            there = math.exp(-t)
            fresh = min(there, eta * math.sqrt(there**2 * (math.exp(-2 * s) - there**2) / math.exp(-2 * s)))
            down = math.sqrt(there**2 - fresh**2)
            t_down = min(end, -math.log(down)) if down > 0 else end
            up = math.sqrt(max(there**2 - math.exp(-2 * t_down), 0.0))

        def epsilon(x: Tensor, t: float) -> Tensor:
            return (x - denoised(x, math.exp(-t))) / math.exp(-t)

        span, r1, r2 = t_down - s, 1 / 3, 2 / 3
        e, end_sigma = epsilon(x, s), math.exp(-t_down)
        s1, s2 = s + r1 * span, s + r2 * span
        e1 = epsilon(x - math.exp(-s1) * math.expm1(r1 * span) * e, s1)
        bent = math.exp(-s2) * (r2 / r1) * (math.expm1(r2 * span) / (r2 * span) - 1) * (e1 - e)
        e2 = epsilon(x - math.exp(-s2) * math.expm1(r2 * span) * e - bent, s2)
        straight = x - end_sigma * math.expm1(span) * e
        lower = straight - end_sigma / (2 * r1) * math.expm1(span) * (e1 - e)
        higher = straight - end_sigma / r2 * (math.expm1(span) / span - 1) * (e2 - e)
        calls += 3
        allowed = torch.maximum(torch.tensor(0.0078), 0.05 * torch.maximum(lower.abs(), previous.abs()))
        error = (((lower - higher) / allowed) ** 2).mean().sqrt().item()
        factor = 1 + math.atan((1 / (error + 1e-8)) ** (1 / order) - 1)
        if factor >= 0.81:
            previous, x, s = lower, higher + up * next(draws), t
        h *= factor
    return x, calls


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("high", "low"), [(14.6, 0.03), (5.0, 0.3), (7.0, 6.5)])
def test_its_steps_are_those_of_the_published_code(high: float, low: float, eta: float) -> None:
    x = high * next(noises(2))
    ours, theirs = noises(3), noises(3)
    sigmas = np.array([high, 1.0, low])  # of which the ends count
    found, calls = run(dpm_adaptive(x, lambda *_: next(ours), sigmas=sigmas, eta=eta))
    wanted, calls_wanted = reference(x, high, low, eta, theirs)
    assert calls == calls_wanted
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_step_that_is_too_long_is_done_again_shorter() -> None:
    asked: list[float] = []

    def sudden(x: Tensor, sigma: float) -> Tensor:
        asked.append(sigma)
        return denoised(x, sigma) + 50 * (sigma < 3)

    run(
        dpm_adaptive(14.6 * next(noises(2)), lambda *_: next(noises(3)), sigmas=np.array([14.6, 0.03])),
        sudden,
    )
    starts = asked[::3]
    assert any(starts[i] == starts[i + 1] for i in range(len(starts) - 1))


def test_answers_that_are_no_numbers_end_it() -> None:
    steps = dpm_adaptive(next(noises(2)), lambda *_: next(noises(3)), sigmas=np.array([14.6, 0.03]))
    with pytest.raises(ArithmeticError, match="not finite"):
        run(steps, lambda x, _: x * float("nan"))


def test_it_is_given_up_where_no_end_is_in_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpm_solver, "MOST_CALLS", 9)
    steps = dpm_adaptive(next(noises(2)), lambda *_: next(noises(3)), sigmas=np.array([14.6, 0.03]))
    with pytest.raises(ArithmeticError, match="no end in 9 model calls"):
        run(steps)


def key(**values: Any) -> PlanKey:
    named = {"sampler_name": "DPM adaptive", "scheduler": "Automatic", "steps": 20, "denoising_strength": 0.6}
    return PlanKey(**{**named, **values})


def test_it_runs_from_the_starts_sigma_to_the_last_above_0() -> None:
    plan = plan_of(key(scheduler="Karras", extra_noise=0.1), LEVELS)
    euler = plan_of(key(sampler_name="Euler", scheduler="Karras"), LEVELS)
    assert isinstance(plan, LivePlan)
    assert isinstance(euler, Plan)
    assert plan.first[1] == pytest.approx(euler.sigmas[0] + 0.1)
    x = next(noises(1)) * 8
    asked = next(plan.sampler(x, lambda *_: next(noises(2))))
    assert asked[1] == pytest.approx(euler.sigmas[0])
    assert plan.last_sigma == pytest.approx(euler.sigmas[-1])


def test_txt2img_runs_over_all_the_models_levels() -> None:
    plan = plan_of(key(txt2img=True, scheduler="Karras", sigma_max=9.0), LEVELS)
    assert isinstance(plan, LivePlan)
    assert plan.first[0] == 0
    assert plan.first[1] == pytest.approx(9.0)  # noise of the schedule's first sigma, as A1111 has it
    _, sigma = next(plan.sampler(next(noises(1)), lambda *_: next(noises(2))))
    assert sigma == pytest.approx(LEVELS.sigma_max)
    assert plan.last_sigma == pytest.approx(LEVELS.sigma_min)


def test_a_strength_of_a_single_step_is_refused() -> None:
    with pytest.raises(Refused, match="denoising_strength"):
        plan_of(key(denoising_strength=0.01), LEVELS)


def test_without_noise_to_add_it_is_there_before_its_first_step() -> None:
    plan = plan_of(key(denoising_strength=0.01, eta=0.0), LEVELS)
    assert isinstance(plan, Plan)
    assert plan.inputs.shape == (0, 2)
    assert plan.result.tolist() == pytest.approx([1.0, LEVELS.sigma_min])


def test_without_steps_it_calls_no_model() -> None:
    assert isinstance(plan_of(key(steps=0), LEVELS), Plan)


def test_the_engine_renders_it_beside_others() -> None:
    family = ToyFamily()
    renders = [render(n, sampler_name=("DPM adaptive", "Euler a")[n % 2], steps=8) for n in range(4)]
    with Engine(family, slots=1) as engine:
        alone = [engine.submit(each).result(60) for each in renders]
    with Engine(family, slots=4) as engine:
        together = [future.result(60) for future in [engine.submit(each) for each in renders]]
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
