"""Plans: which steps a strength runs, and what the engine may rely on."""

from typing import Any

import numpy as np
import pytest

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_shared.samplers import SAMPLERS
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.plan import Draw, Plan, compile_plan
from img2img_worker.sampling.plan_key import PlanKey
from img2img_worker.sampling.schedules import karras, uniform

TABLED = [name for name, sampler in SAMPLERS.items() if not sampler.adaptive]
LEVELS = NoiseLevels.from_alphas_cumprod(np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2))


def plan_of(**params: Any) -> Plan:
    return compile_plan(PlanKey.of(Params(**params)), LEVELS)


@pytest.mark.parametrize(
    ("steps", "strength", "calls"),
    [(20, 0.75, 16), (20, 1.0, 20), (20, 0.2, 5), (20, 0.04, 1), (1, 1.0, 1), (7, 0.5, 4), (10, 0.7, 8)],
)
def test_a_strength_runs_its_share_of_the_steps_and_one_more(steps: int, strength: float, calls: int) -> None:
    plan = plan_of(steps=steps, denoising_strength=strength)
    whole = uniform(steps, LEVELS)
    assert np.allclose(plan.sigmas, whole[steps - calls : steps], rtol=1e-12)
    assert plan.inputs[0, :2].tolist() == [1, plan.sigmas[0]]


@pytest.mark.parametrize("sampler", TABLED)
@pytest.mark.parametrize(("steps", "strength"), [(20, 0.3), (6, 0.05), (10, 1.0)])
def test_fix_steps_runs_exactly_the_steps(sampler: str, steps: int, strength: float) -> None:
    plan = plan_of(steps=steps, denoising_strength=strength, fix_steps=True, sampler_name=sampler)
    if SAMPLERS[sampler].second_order:
        calls = 2 * steps - 1  # the step to 0 takes one call
    elif SAMPLERS[sampler].timesteps:  # as A1111 counts: one less, and DDIM leaves out another
        calls = steps - 1 if sampler in ("UniPC", "PLMS") else steps - 2
    else:
        calls = steps
    assert len(plan.sigmas) == calls


def test_a_start_at_the_first_timestep_calls_no_model_and_shows_its_noise() -> None:
    plan = plan_of(sampler_name="DDIM", steps=20, denoising_strength=0.02)
    assert plan.inputs.shape == (0, 2)
    share = 1 / np.sqrt(1 + LEVELS.sigmas[1] ** 2)
    assert plan.result.tolist() == pytest.approx([share, LEVELS.sigmas[1] * share])


@pytest.mark.parametrize("fix_steps", [False, True])
@pytest.mark.parametrize("sampler", ["Euler", "DPM2", "DPM++ SDE", "LCM", "PLMS"])
def test_strength_0_runs_the_last_step(sampler: str, fix_steps: bool) -> None:
    plan = plan_of(denoising_strength=0.0, sampler_name=sampler, fix_steps=fix_steps)
    least = plan_of(denoising_strength=0.01, sampler_name=sampler)
    assert plan.inputs.tolist() == least.inputs.tolist()
    assert plan.result.tolist() == least.result.tolist()


def test_without_steps_it_calls_no_model_and_keeps_the_latent() -> None:
    key = PlanKey.of(Params(sampler_name="DPM++ SDE").model_copy(update={"steps": 0}))
    plan = compile_plan(key, LEVELS)
    assert plan.inputs.shape == (0, 1)
    assert plan.result.tolist() == [1.0]
    assert plan.n_noises == 0


@pytest.mark.parametrize("sampler", TABLED)
@pytest.mark.parametrize("steps", [1, 2, 3, 37])
def test_the_engine_can_execute_any_plan_from_left_to_right(sampler: str, steps: int) -> None:
    if steps < {"DPM fast": 2, "UniPC": 4}.get(sampler, 0):
        pytest.skip("refused")
    plan = plan_of(sampler_name=sampler, steps=steps, denoising_strength=1.0, noise_source="cpu")
    calls, noises = len(plan.sigmas), plan.n_noises
    assert plan.inputs.shape == (calls, 1 + noises + calls)
    assert plan.result.shape == (1 + noises + calls,)
    assert not np.triu(plan.inputs[:, 1 + noises :]).any()
    rows = np.vstack([plan.inputs, plan.result])[:, 1 : 1 + noises]
    first_use = [int(np.flatnonzero(column)[0]) for column in rows.T]
    assert first_use == sorted(first_use)
    assert plan.timesteps.dtype == np.float32
    assert ((plan.timesteps >= 0) & (plan.timesteps <= 999)).all()
    assert np.allclose(plan.scale_in, 1 / np.sqrt(plan.sigmas**2 + 1))


@pytest.mark.parametrize("sampler", TABLED)
def test_constant_latents_stay_what_they_are(sampler: str) -> None:
    """Coefficients of latent and answers sum to 1: a model that answers z0 gives back z0."""
    plan = plan_of(sampler_name=sampler, denoising_strength=0.6)
    signal = np.ones(len(plan.result))
    signal[1 : 1 + plan.n_noises] = 0
    if not SAMPLERS[sampler].timesteps:
        assert np.allclose(plan.inputs @ signal, 1, atol=1e-9)
        assert plan.result @ signal == pytest.approx(1)


def test_dropping_the_penultimate_sigma_keeps_the_number_of_steps() -> None:
    plan = plan_of(sampler_name="DPM++ 3M SDE", scheduler="Karras", steps=10, denoising_strength=1.0)
    assert np.allclose(plan.sigmas, karras(11, LEVELS)[:10])


def test_churn_that_is_off_at_a_step_still_takes_its_draw() -> None:
    options = {"steps": 8, "denoising_strength": 1.0, "s_churn": 4.0}
    everywhere, low = plan_of(**options), plan_of(**options, s_tmax=1.0)
    assert [request.position for request in everywhere.noises if isinstance(request, Draw)] == [*range(9)]
    skipped = int((uniform(8, LEVELS) > 1).sum())
    positions = [request.position for request in low.noises if isinstance(request, Draw)]
    assert positions == [0, *range(skipped + 1, 9)]
    assert plan_of(**options, s_tmax=0.0).n_noises == everywhere.n_noises  # A1111: 0 is no upper end


@pytest.mark.parametrize(
    "params",
    [
        {"sampler_name": "DDIM", "steps": 150, "denoising_strength": 0.1, "fix_steps": True},
        {"sampler_name": "UniPC", "steps": 150, "denoising_strength": 0.1, "fix_steps": True},
        {"scheduler": "DDIM", "steps": 150, "denoising_strength": 0.05, "fix_steps": True},
        {"steps": 20, "denoising_strength": 1e-9, "fix_steps": True},
        {"sampler_name": "DPM++ 2M", "scheduler": "Simple", "steps": 150, "denoising_strength": 0.01}
        | {"fix_steps": True},
        {"sampler_name": "DDIM", "eta": 10.0},
    ],
)
def test_what_has_no_plan_is_refused_by_name(params: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="steps"):
        plan_of(**params)


@pytest.mark.parametrize(
    "ends",
    [
        {"rho": 0.01},
        {"rho": 0.01, "sigma_max": 9000.0},
        {"sigma_min": 500.0},
        {"sigma_min": 2.0, "sigma_max": 2.0},
        {"rho": 1.0, "sigma_min": 1e-9},
    ],
)
def test_a_schedule_beyond_numbers_is_refused(ends: dict[str, float]) -> None:
    with pytest.raises(Refused, match="sigma_min, sigma_max"):
        plan_of(scheduler="Karras", steps=7, **ends)


def test_a_plan_is_compiled_once_for_each_key_and_model() -> None:
    other = NoiseLevels.from_alphas_cumprod(LEVELS.alphas_cumprod)
    one, two = PlanKey.of(Params(seed=1)), PlanKey.of(Params(seed=2, prompt="a hat"))
    assert compile_plan(one, LEVELS) is compile_plan(two, LEVELS)
    assert compile_plan(one, LEVELS) is not compile_plan(one, other)


@pytest.mark.parametrize("sampler_name", TABLED)
@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_each_row_is_few_terms_beside_the_row_before(sampler_name: str, strength: float) -> None:
    plan = plan_of(sampler_name=sampler_name, steps=30, denoising_strength=strength)
    before = np.zeros(plan.inputs.shape[1])
    for row, terms in zip(plan.inputs, plan.terms, strict=True):
        remade = terms.before * before
        np.add.at(remade, terms.places, terms.weights)
        np.testing.assert_allclose(remade, row, rtol=0, atol=1e-9 * np.abs(row).max())
        assert sampler_name in ("LMS", "PLMS") or len(terms.places) <= 4
        before = row
