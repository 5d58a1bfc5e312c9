"""Executed plans against step-by-step references, for every sampler with every schedule."""

from typing import Any

import numpy as np
import pytest
import torch

from img2img_shared import names
from img2img_shared.params import Params
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.plan import Draw, Plan, PlanKey, compile_plan
from img2img_worker.sampling.runs import scheduled_path
from img2img_worker.sampling.samplers import SAMPLERS
from img2img_worker.sampling.schedules import SCHEDULES
from tests.unit import sampling_reference_vp as vp
from tests.unit.sampling_reference import REFERENCES, Latent, Picture

ABAR = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).astype(np.float32).astype(float)
LEVELS = NoiseLevels.from_alphas_cumprod(ABAR)
LCM_LEVELS = LEVELS.every(20)
PICTURE = Picture(5)
RUNS = [(0.01, 20), (0.35, 20), (0.75, 13), (1.0, 40)]
#: of the rest 2e-7, for timesteps are single precision; so are DPM++ SDE's inner sigmas
TOLERANCES = {"LCM": 2e-5, "DPM++ SDE": 1e-5}
OPTIONS: dict[str, float] = {
    "eta": 0.7,
    "s_noise": 1.02,
    "s_churn": 5.0,
    "s_tmin": 0.2,
    "s_tmax": 6.0,
}


def key(sampler: str, scheduler: str, strength: float, steps: int, **more: Any) -> PlanKey:
    return PlanKey(
        sampler_name=sampler, scheduler=scheduler, denoising_strength=strength, steps=steps, **more
    )


def executed(plan: Plan, picture: Picture = PICTURE) -> Latent:
    """What the engine does with a plan, in float64."""
    history = [picture.z0]
    for request in plan.noises:
        if isinstance(request, Draw):
            history.append(picture.draw(request.position))
        else:
            history.append(picture.increment(request.sigma, request.sigma_next))
    for sigma, t, row, scale in zip(plan.sigmas, plan.timesteps, plan.inputs, plan.scale_in, strict=True):
        x = sum(c * entry for c, entry in zip(row, history, strict=False))
        denoised = x - sigma * picture.epsilon(x * scale, float(t))
        history.append(picture.blend(denoised))
    return np.asarray(sum(c * entry for c, entry in zip(plan.result, history, strict=True)))


def reference(wanted: PlanKey, picture: Picture = PICTURE) -> Latent:
    levels = LCM_LEVELS if wanted.sampler_name == "LCM" else LEVELS
    sigmas = scheduled_path(wanted, levels).sigmas
    position = 0

    def draw(sigma: float, sigma_next: float) -> Latent:
        nonlocal position
        position += 1
        if SAMPLERS[wanted.sampler_name].brownian:
            return picture.increment(sigma, sigma_next)
        return picture.draw(position)

    def model(x: Latent, sigma: float) -> Latent:
        if wanted.sampler_name == "LCM":
            logs = torch.tensor(LCM_LEVELS.sigmas, dtype=torch.float32).log()
            t = 20.0 * int((torch.tensor(sigma, dtype=torch.float32).log() - logs).abs().argmin()) + 19
        else:
            t = float(np.interp(np.log(sigma), np.log(LEVELS.sigmas), np.arange(1000)))
        denoised = x - sigma * picture.epsilon(x / np.sqrt(sigma**2 + 1), t)
        if wanted.sampler_name == "LCM":  # the scalings that the sampler leaves out
            skip = 0.25 / ((10 * t) ** 2 + 0.25)
            denoised = denoised * np.sqrt(1 - skip) + x * skip
        return picture.blend(denoised)

    x = picture.z0 + (sigmas[0] + wanted.extra_noise) * wanted.initial_noise_multiplier * picture.draw(0)
    return REFERENCES[wanted.sampler_name](model, x, sigmas, draw, wanted.options)


def assert_same(got: Latent, wanted: Latent, tolerance: float = 2e-7) -> None:
    assert np.isfinite(wanted).all()
    assert np.abs(got - wanted).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("scheduler", SCHEDULES)
@pytest.mark.parametrize("sampler", REFERENCES)
def test_a_plan_gives_what_the_sampler_gives_step_by_step(sampler: str, scheduler: str) -> None:
    for strength, steps in RUNS:
        wanted = key(sampler, scheduler, strength, steps)
        assert_same(executed(compile_plan(wanted, LEVELS)), reference(wanted), TOLERANCES.get(sampler, 2e-7))


@pytest.mark.parametrize("scheduler", ["Automatic", "KL Optimal"])
@pytest.mark.parametrize("sampler", [name for name in REFERENCES if names.SAMPLERS[name].options])
def test_options_act_as_in_the_sampler_step_by_step(sampler: str, scheduler: str) -> None:
    taken = {name: OPTIONS[name] for name in names.SAMPLERS[sampler].options}
    variants = [taken, *({name: value} for name, value in taken.items())]
    if "eta" in taken:
        variants += [{"eta": 0.0}, {"eta": 3.0}]
    for strength, steps in RUNS[1:]:
        for options in variants:
            wanted = key(sampler, scheduler, strength, steps, **options)
            assert_same(
                executed(compile_plan(wanted, LEVELS)), reference(wanted), TOLERANCES.get(sampler, 2e-7)
            )
        plain = executed(compile_plan(key(sampler, scheduler, strength, steps), LEVELS))
        with_all = executed(compile_plan(key(sampler, scheduler, strength, steps, **taken), LEVELS))
        assert np.abs(plain - with_all).max() > 1e-3


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("strength", "steps"), [*RUNS, (0.75, 30), (1.0, 7), (0.5, 150)])
def test_ddim_gives_what_it_gives_in_variance_preserving_terms(
    strength: float, steps: int, eta: float
) -> None:
    start = int(min(strength, 0.999) * steps)
    plan = compile_plan(key("DDIM", "Automatic", strength, steps, eta=eta), LEVELS)
    assert len(plan.sigmas) == start + 1
    assert np.array_equal(plan.timesteps, np.round(plan.timesteps))
    assert_same(executed(plan), vp.ddim(PICTURE, ABAR, steps, start, eta), 2e-6)


@pytest.mark.parametrize(("strength", "steps"), [*RUNS, (0.75, 30), (1.0, 2), (1.0, 3), (0.5, 150)])
def test_unipc_gives_what_the_published_code_gives(strength: float, steps: int) -> None:
    start = int(min(strength, 0.999) * steps)
    plan = compile_plan(key("UniPC", "Automatic", strength, steps), LEVELS)
    assert len(plan.sigmas) == start + 1
    assert_same(executed(plan), vp.unipc(PICTURE, ABAR, steps, start), 1e-6)


@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M SDE", "LCM", "DDIM"])
def test_first_noise_is_scaled_and_extra_noise_added(sampler: str) -> None:
    wanted = key(sampler, "Automatic", 0.6, 20, initial_noise_multiplier=0.8, extra_noise=0.3)
    plan = compile_plan(wanted, LEVELS)
    assert plan.inputs[0, 0] == 1
    assert plan.inputs[0, 1] == pytest.approx((plan.sigmas[0] + 0.3) * 0.8)


def test_producer_and_worker_know_the_same_samplers_and_schedules() -> None:
    assert list(SAMPLERS) == list(names.SAMPLERS)
    assert set(names.SCHEDULERS) == {"Automatic", *SCHEDULES}


@pytest.mark.parametrize(
    ("name", "scheduler", "meant"),
    [
        ("DPM++ 2M SDE Heun Karras", "Automatic", ("DPM++ 2M SDE Heun", "Karras")),
        ("DPM++ 2M SDE Heun", "automatic", ("DPM++ 2M SDE Heun", "Automatic")),
        ("dpm++ 3m sde exponential", "", ("DPM++ 3M SDE", "Exponential")),
        ("k_dpm_2_a", "karras", ("DPM2 a", "Karras")),
        ("LMS  Karras", "sgm_uniform", ("LMS", "SGM Uniform")),
        ("Euler Align Your Steps", "Automatic", ("Euler", "Align Your Steps")),
        ("ddim", "Uniform", ("DDIM", "Uniform")),
        ("unipc", "Automatic", ("UniPC", "Automatic")),
        ("Restart", "KLOptimal", ("Restart", "KL Optimal")),
    ],
)
def test_names_are_read_as_a1111_reads_them(name: str, scheduler: str, meant: tuple[str, str]) -> None:
    assert names.split_sampler(name, scheduler or "Automatic") == meant


def test_every_name_and_alias_of_a_sampler_finds_it() -> None:
    spellings = [(name, s) for s, has in names.SAMPLERS.items() for name in (s, s.upper(), *has.aliases)]
    assert len({name.lower() for name, _ in spellings}) >= 2 * len(names.SAMPLERS) - 3
    for spelling, sampler in spellings:
        assert names.split_sampler(spelling, "Automatic")[0] == sampler


@pytest.mark.parametrize("name", ["DDIM", "UniPC"])
def test_a_sampler_with_timesteps_of_its_own_runs_on_them_whatever_the_schedule(name: str) -> None:
    own, other = (
        compile_plan(PlanKey.of(Params(sampler_name=name, scheduler=scheduler, seed=1)), LEVELS)
        for scheduler in ("Automatic", "Karras")
    )
    assert np.array_equal(own.timesteps, other.timesteps)
    assert np.array_equal(own.inputs, other.inputs)


def test_lcm_is_told_the_lower_of_two_levels_equally_near() -> None:
    between = np.float32(np.sqrt(LCM_LEVELS.sigmas[24] * LCM_LEVELS.sigmas[25]))
    logs = np.log(LCM_LEVELS.sigmas[24:26].astype(np.float32))
    assert abs(np.log(between) - logs[0]) == abs(np.log(between) - logs[1])
    assert LCM_LEVELS.sigma_to_t(float(between)) == 499
