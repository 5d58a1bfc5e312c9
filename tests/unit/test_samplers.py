"""Executed plans against step-by-step references, for every sampler with every schedule."""

from typing import Any

import numpy as np
import pytest
import torch

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_shared.samplers import SAMPLERS, SCHEDULERS
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.plan import Draw, Plan, compile_plan
from img2img_worker.sampling.plan_key import PlanKey
from img2img_worker.sampling.runs import run_of
from img2img_worker.sampling.sampler_functions import solver
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
        if plan.blends_input:
            history.append(x - sigma * picture.epsilon(picture.blend(x * scale), float(t)))
        else:
            history.append(picture.blend(x - sigma * picture.epsilon(x * scale, float(t))))
    return np.asarray(sum(c * entry for c, entry in zip(plan.result, history, strict=True)))


def reference(wanted: PlanKey, picture: Picture = PICTURE) -> Latent:
    levels = LCM_LEVELS if wanted.sampler_name == "LCM" else LEVELS
    run = run_of(wanted, levels)
    position = 0

    def draw(sigma: float, sigma_next: float) -> Latent:
        nonlocal position
        position += 1
        if SAMPLERS[wanted.sampler_name].brownian_noise:
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

    x = run.first[0] * picture.z0 + run.first[1] * picture.draw(0)
    return REFERENCES[wanted.sampler_name](model, x, run.sigmas, draw, wanted.options)


def assert_same(got: Latent, wanted: Latent, tolerance: float = 2e-7) -> None:
    assert np.isfinite(wanted).all()
    assert np.abs(got - wanted).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("sampler", REFERENCES)
def test_a_plan_gives_what_the_sampler_gives_step_by_step(sampler: str, scheduler: str) -> None:
    for strength, steps in RUNS[sampler == "DPM fast" :]:  # it refuses a single step
        wanted = key(sampler, scheduler, strength, steps)
        assert_same(executed(compile_plan(wanted, LEVELS)), reference(wanted), TOLERANCES.get(sampler, 2e-7))


@pytest.mark.parametrize("scheduler", ["Automatic", "KL Optimal"])
@pytest.mark.parametrize("sampler", [name for name in REFERENCES if SAMPLERS[name].options])
def test_options_act_as_in_the_sampler_step_by_step(sampler: str, scheduler: str) -> None:
    taken = {name: OPTIONS[name] for name in SAMPLERS[sampler].options}
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


STARTS = [(0.05, 20), (0.35, 20), (0.75, 13), (1.0, 40), (0.75, 30), (1.0, 7), (0.5, 150)]


def start_of(strength: float, steps: int) -> int:
    return int(min(strength, 0.999) * steps)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("strength", "steps"), STARTS)
def test_ddim_gives_what_it_gives_in_variance_preserving_terms(
    strength: float, steps: int, eta: float
) -> None:
    start = start_of(strength, steps)
    plan = compile_plan(key("DDIM", "Automatic", strength, steps, eta=eta), LEVELS)
    assert len(plan.sigmas) == max(start - 1, 0)
    assert np.array_equal(plan.timesteps, np.round(plan.timesteps))
    assert_same(executed(plan), vp.ddim(PICTURE, ABAR, steps, start, eta), 2e-6)


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_cfg_pp_is_ddim_with_a_guidance_of_its_own_at_each_call(eta: float) -> None:
    plan = compile_plan(key("DDIM CFG++", "Automatic", 0.75, 20, eta=eta), LEVELS)
    history = [PICTURE.z0, *(PICTURE.draw(each.position) for each in plan.noises if isinstance(each, Draw))]
    for sigma, t, row, guidance in zip(plan.sigmas, plan.timesteps, plan.inputs, plan.guidance, strict=True):
        x = np.asarray(sum(c * entry for c, entry in zip(row, history, strict=False)))
        unguided = PICTURE.epsilon(PICTURE.blend(x / np.sqrt(sigma**2 + 1)), float(t))
        scale = 7.0 * SAMPLERS["DDIM CFG++"].cfg_scale_multiplier * guidance
        history.append(x - sigma * (unguided + scale * (0.5 * unguided)))
    found = np.asarray(sum(c * entry for c, entry in zip(plan.result, history, strict=True)))
    assert_same(found, vp.ddim(PICTURE, ABAR, 20, 15, eta, cfg=7.0), 2e-6)


@pytest.mark.parametrize(("strength", "steps"), STARTS)
def test_plms_gives_what_it_gives_in_variance_preserving_terms(strength: float, steps: int) -> None:
    plan = compile_plan(key("PLMS", "Automatic", strength, steps), LEVELS)
    assert_same(executed(plan), vp.plms(PICTURE, ABAR, steps, start_of(strength, steps)), 2e-6)


@pytest.mark.parametrize("skip_type", ["time_uniform", "time_quadratic", "logSNR"])
@pytest.mark.parametrize("variant", ["bh1", "bh2", "vary_coeff"])
@pytest.mark.parametrize(
    ("order", "lower_order_final"), [(1, True), (2, True), (3, True), (3, False), (5, True), (5, False)]
)
def test_unipc_gives_what_the_published_code_gives(
    order: int, lower_order_final: bool, variant: str, skip_type: str
) -> None:
    options = {"order": order, "lower_order_final": lower_order_final} | {
        "variant": variant,
        "skip_type": skip_type,
    }
    named = {f"uni_pc_{name}": value for name, value in options.items()}
    for strength, steps in [(0.75, 13), (1.0, 40), (0.75, 30), (0.9, 6)]:
        start = start_of(strength, steps)
        plan = compile_plan(key("UniPC", "Automatic", strength, steps, **named), LEVELS)
        assert len(plan.sigmas) == start
        assert_same(executed(plan), vp.unipc(PICTURE, ABAR, steps, start, **options), 2e-6)  # type: ignore[arg-type]


def test_unipc_refuses_an_order_beyond_its_steps() -> None:
    with pytest.raises(Refused, match=r"uni_pc_order is 3: use at most 2"):
        compile_plan(key("UniPC", "Automatic", 0.5, 5), LEVELS)


@pytest.mark.parametrize("sampler", ["DDIM", "PLMS", "UniPC"])
def test_txt2img_runs_all_timesteps_from_noise_alone(sampler: str) -> None:
    plan = compile_plan(key(sampler, "Automatic", 0.3, 20, txt2img=True), LEVELS)
    wanted = {
        "DDIM": lambda: vp.ddim(PICTURE, ABAR, 20, None, 0.0),
        "PLMS": lambda: vp.plms(PICTURE, ABAR, 20, None),
        "UniPC": lambda: vp.unipc(PICTURE, ABAR, 20, None),
    }
    assert_same(executed(plan), wanted[sampler](), 2e-6)


@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M SDE", "LCM"])
def test_first_noise_is_scaled_and_extra_noise_added(sampler: str) -> None:
    wanted = key(sampler, "Automatic", 0.6, 20, initial_noise_multiplier=0.8, extra_noise=0.3)
    plan = compile_plan(wanted, LEVELS)
    assert plan.inputs[0, 0] == 1
    assert plan.inputs[0, 1] == pytest.approx((plan.sigmas[0] + 0.3) * 0.8)


def test_ddims_first_noise_is_that_of_the_level_above_its_first() -> None:
    wanted = key("DDIM", "Automatic", 0.6, 20, initial_noise_multiplier=0.8, extra_noise=0.3)
    plan = compile_plan(wanted, LEVELS)
    above = LEVELS.sigmas[int(plan.timesteps[0]) + 50]
    ratio = np.sqrt((1 + plan.sigmas[0] ** 2) / (1 + above**2))
    assert plan.inputs[0, 0] == pytest.approx(ratio)
    assert plan.inputs[0, 1] == pytest.approx(ratio * (above + 0.3) * 0.8)


@pytest.mark.parametrize("scaled", [False, True])
def test_txt2img_begins_with_noise_of_the_schedules_first_sigma(scaled: bool) -> None:
    wanted = key("Euler", "Karras", 0.3, 20, txt2img=True, sgm_noise_multiplier=scaled)
    plan = compile_plan(wanted, LEVELS)
    assert len(plan.sigmas) == 20
    first = np.sqrt(1 + plan.sigmas[0] ** 2) if scaled else plan.sigmas[0]
    assert plan.inputs[0, :2].tolist() == [0, pytest.approx(first)]


@pytest.mark.parametrize("sampler", [name for name, has in SAMPLERS.items() if not has.adaptive])
def test_every_sampler_that_is_named_runs_and_takes_its_options(sampler: str) -> None:
    assert sampler in REFERENCES or SAMPLERS[sampler].timesteps, "no reference of it in this file"
    assert callable(solver(sampler))
    plan = compile_plan(PlanKey.of(Params(sampler_name=sampler, steps=12, seed=1)), LEVELS)
    assert len(plan.sigmas) > 0


def test_a_velocity_is_read_by_whole_timesteps_and_by_lcm_as_noise() -> None:
    unipc = compile_plan(key("UniPC", "Automatic", 0.75, 13), LEVELS)
    assert unipc.velocity_sigmas is not None
    assert unipc.timesteps[1] % 1 > 0
    assert unipc.velocity_sigmas.tolist() == [LEVELS.sigmas[int(t)] for t in unipc.timesteps]
    lcm = compile_plan(key("LCM", "Automatic", 0.75, 13), LEVELS)
    assert lcm.velocity_sigmas is not None
    assert not lcm.velocity_sigmas.any()
    assert compile_plan(key("Euler", "Automatic", 0.75, 13), LEVELS).velocity_sigmas is None


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
