"""A flow's levels: exact timesteps, A1111's schedules, and samplers that know nothing of flows."""

import warnings
from collections.abc import Callable
from itertools import pairwise

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from img2img_shared.errors import Refused
from img2img_worker.models.families.flow import Shift
from img2img_worker.sampling.levels import flow_levels
from img2img_worker.sampling.plan import Plan, compile_plan
from img2img_worker.sampling.plan_key import PlanKey
from img2img_worker.sampling.schedules import sigmas

LEVELS = flow_levels(3.0)
Array = NDArray[np.float64]
Z, NOISE = np.random.default_rng(1).standard_normal((2, 64))


def test_a_shift_of_three_leaves_a_quarter_of_the_picture_at_half_time() -> None:
    assert LEVELS.timesteps[499] == pytest.approx(750)
    assert LEVELS.sigmas[499] == pytest.approx(3)
    assert LEVELS.timesteps[-1] == 1000
    assert (np.diff(LEVELS.sigmas) > 0).all()
    assert np.isfinite(LEVELS.sigmas).all()


@pytest.mark.parametrize("share", [1e-4, 0.002, 0.31831, 0.5, 0.999, 0.99999])
def test_a_timestep_is_exact_for_any_sigma(share: float) -> None:
    sigma = share / (1 - share)
    assert LEVELS.sigma_to_t(sigma) == pytest.approx(1000 * share, rel=1e-13)
    assert float(LEVELS.t_to_sigma(1000 * share)) == pytest.approx(sigma, rel=1e-10)


def test_views_of_a_flow_tell_exact_timesteps_too() -> None:
    for view in (LEVELS.log_alpha(), LEVELS.every(20)):
        assert view.sigma_to_t(1.0) == 500
    assert LEVELS.every(20).timesteps.tolist() == LEVELS.timesteps[19::20].tolist()


@pytest.mark.parametrize("scheduler", ["Uniform", "Simple", "Karras", "Exponential", "SGM Uniform", "Beta"])
def test_schedules_are_a1111s_over_the_shares_of_noise(scheduler: str) -> None:
    """A1111's SD 3 hands its 1000 shares to k-diffusion as if they were sigmas."""
    shares = 3 * np.arange(1, 1001) / (1000 + 2 * np.arange(1, 1001))
    n = 10
    ramp = np.linspace(0, 1, n)
    even = np.exp(np.interp(np.linspace(999, 0, n), np.arange(1000), np.log(shares)))
    wanted = {
        "Uniform": even,
        "Simple": shares[[-(1 + i * 100) for i in range(n)]],
        "Karras": (1 + ramp * (shares[0] ** (1 / 7) - 1)) ** 7,
        "Exponential": shares[0] ** ramp,
        "SGM Uniform": np.exp(np.interp(np.linspace(999, 0, n + 1), np.arange(1000), np.log(shares)))[:-1],
        "Beta": shares[0] + stats.beta.ppf(1 - ramp, 0.6, 0.6) * (1 - shares[0]),
    }[scheduler]
    found = sigmas(scheduler, n, LEVELS)
    assert found[-1] == 0
    found = found[:-1] / (1 + found[:-1])
    assert found == pytest.approx(wanted, rel=1e-5)
    assert found[0] == pytest.approx(1, abs=2e-6)


def test_multistep_solvers_step_in_the_flows_own_log_snr() -> None:
    """As diffusers' DPM-Solver for flows does, which is written for them."""
    plan = _plan("DPM++ 2M")
    shares = plan.sigmas / (1 + plan.sigmas)
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, final_sigmas_type="zero"
    )
    with warnings.catch_warnings():  # of numpy, at diffusers' use of it
        warnings.simplefilter("ignore", DeprecationWarning)
        scheduler.set_timesteps(len(shares))
    scheduler.sigmas = torch.from_numpy(np.append(shares, 0.0))
    x = torch.from_numpy(shares[0] * NOISE + (1 - shares[0]) * Z)
    for t, share in zip(scheduler.timesteps, shares, strict=True):
        x = scheduler.step(torch.from_numpy(_velocity(x.numpy(), share)), t, x, return_dict=False)[0]
    assert np.abs(_run(plan) - x.numpy()).max() < 1e-5


def test_straight_lines_are_the_same_in_both_variables() -> None:
    plan = _plan("Euler")
    shares = np.append(plan.sigmas / (1 + plan.sigmas), 0.0)
    x = shares[0] * NOISE + (1 - shares[0]) * Z
    for share, after in pairwise(shares):
        x = x + (after - share) * _velocity(x, share)
    assert np.abs(_run(plan) - x).max() < 1e-12


def test_noise_on_the_way_keeps_the_latent_a_flows() -> None:
    """With a perfect model, an ancestral sampler's latents hold z and noise as they should."""
    plan = _plan("Euler a")
    for row, sigma in zip(plan.inputs, plan.sigmas, strict=True):
        noises = row[1 : 1 + plan.n_noises]
        # a perfect answer is z itself
        of_z = row.sum() - noises.sum()
        assert (of_z, (noises**2).sum()) == pytest.approx((1.0, sigma**2), rel=1e-6)


def test_a_dynamic_shift_is_that_of_diffusers() -> None:
    for kind in ("exponential", "linear"):
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, time_shift_type=kind
        )
        for patches in (64, 256, 1024, 4096, 16384):
            mu = 0.5 + (1.15 - 0.5) * (patches - 256) / (4096 - 256)
            scheduler.set_timesteps(sigmas=[0.9, 0.5, 0.1], mu=mu)
            levels = flow_levels(Shift.of(scheduler.config).at(patches))
            assert levels.timesteps[[899, 499, 99]] == pytest.approx(scheduler.timesteps.numpy(), rel=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        {"shift": -1.0},
        {"shift": "three"},
        {"num_train_timesteps": 100},
        {"use_dynamic_shifting": True, "base_image_seq_len": 64, "max_image_seq_len": 64},
    ],
    ids=str,
)
def test_a_shift_that_makes_no_sense_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(Refused, match=r"model\.scheduler is "):
        Shift.of(config).at(64)


def _plan(sampler: str) -> Plan:
    key = PlanKey(sampler_name=sampler, scheduler="Simple", steps=12, denoising_strength=0.8)
    return compile_plan(key, LEVELS)


def _velocity(x: Array, share: float) -> Array:
    """Some network's answer: noise - z, more or less."""
    return np.asarray(NOISE - Z + 0.3 * np.tanh(2 * x + share) + 0.2 * share * np.roll(x, 1))


def _run(plan: Plan, velocity: Callable[[Array, float], Array] = _velocity) -> Array:
    """The last latent, as the engine gets it from a family."""
    history = np.zeros((len(plan.result), len(Z)))
    history[0], history[1] = Z, NOISE
    for k, (row, sigma) in enumerate(zip(plan.inputs, plan.sigmas, strict=True)):
        share = sigma / (1 + sigma)
        x = row @ history / (1 + sigma)
        history[1 + plan.n_noises + k] = x - share * velocity(x, share)
    return np.asarray(plan.result @ history)
