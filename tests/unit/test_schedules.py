"""Schedules against A1111's formulas in its own single precision, and against published numbers."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_shared.samplers import SCHEDULERS
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.plan import compile_plan
from img2img_worker.sampling.plan_key import PlanKey
from img2img_worker.sampling.schedules import sigmas

ABAR = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).astype(np.float32)
LEVELS = NoiseLevels.from_alphas_cumprod(ABAR)
ALL = ((1 - torch.tensor(ABAR)) / torch.tensor(ABAR)) ** 0.5
LOW, HIGH = float(ALL[0]), float(ALL[-1])


def at(t: torch.Tensor) -> torch.Tensor:
    below, above = t.floor().long(), t.ceil().long()
    return ((1 - t.frac()) * ALL.log()[below] + t.frac() * ALL.log()[above]).exp()


def in_single_precision() -> dict[str, Callable[[int], torch.Tensor]]:
    """n -> sigmas above 0, each as A1111 computes it."""
    line = torch.linspace
    return {
        "Uniform": lambda n: at(line(999, 0, n)),
        "Normal": lambda n: at(line(999, 0, n)),
        "SGM Uniform": lambda n: at(line(999, 0, n + 1)[:-1]),
        "Karras": lambda n: (HIGH ** (1 / 7) + line(0, 1, n) * (LOW ** (1 / 7) - HIGH ** (1 / 7))) ** 7,
        "Exponential": lambda n: line(math.log(HIGH), math.log(LOW), n).exp(),
        "Polyexponential": lambda n: (line(1, 0, n) * math.log(HIGH / LOW) + math.log(LOW)).exp(),
        "Simple": lambda n: torch.stack([ALL[-1 - int(i * 1000 / n)] for i in range(n)]),
        "DDIM": lambda n: ALL[1 :: 1000 // n].flip(0),
        "Beta": lambda n: torch.tensor(
            [LOW + stats.beta.ppf(1 - i / max(n - 1, 1), 0.6, 0.6) * (HIGH - LOW) for i in range(n)]
        ),
        "KL Optimal": kl_optimal,
    }


def kl_optimal(n: int) -> torch.Tensor:
    index = torch.arange(n + 1)
    low, high = torch.arctan(torch.tensor(LOW)), torch.arctan(torch.tensor(HIGH))
    return torch.tan(index / n * low + (1.0 - index / n) * high)


@pytest.mark.parametrize("scheduler", sorted(in_single_precision()))
@pytest.mark.parametrize("steps", [1, 2, 7, 20, 30, 50, 150])
def test_a_schedule_is_a1111s_to_the_last_digit(scheduler: str, steps: int) -> None:
    got = sigmas(scheduler, steps, LEVELS)
    wanted = in_single_precision()[scheduler](steps).numpy()
    if scheduler != "KL Optimal":
        assert got[-1] == 0
        got = got[:-1]
    assert len(got) == len(wanted)
    assert np.allclose(got, wanted, rtol=1e-7, atol=0)


@pytest.mark.parametrize("scheduler", sorted(set(SCHEDULERS) - {"Automatic"}))
@pytest.mark.parametrize("steps", [2, 11, 20, 100])
def test_a_schedule_descends_and_stays_inside_the_models_levels(scheduler: str, steps: int) -> None:
    got = sigmas(scheduler, steps, LEVELS)
    assert (np.diff(got) < 0).all()
    assert got[0] <= LEVELS.sigma_max * 1.001
    if scheduler != "DDIM":
        assert len(got) == steps + 1


def test_align_your_steps_has_the_published_tables() -> None:
    plain = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029]
    xl = [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029]
    assert sigmas("Align Your Steps", 11, LEVELS) == pytest.approx([*plain, 0])
    sdxl = NoiseLevels.from_alphas_cumprod(ABAR, is_sdxl=True)
    assert sigmas("Align Your Steps", 11, sdxl) == pytest.approx([*xl, 0])


def test_align_your_steps_is_log_linear_between_its_levels() -> None:
    got = sigmas("Align Your Steps", 21, LEVELS)
    assert got[0] == pytest.approx(14.615)
    assert got[1] == pytest.approx(math.sqrt(14.615 * 6.475))
    assert got[2] == pytest.approx(6.475)
    assert got[20] == pytest.approx(0.029)


def test_ddims_stride_gives_one_more_sigma_where_it_does_not_divide() -> None:
    assert len(sigmas("DDIM", 30, LEVELS)) == 32
    assert len(sigmas("DDIM", 20, LEVELS)) == 21


def test_ends_and_exponents_are_options() -> None:
    line, (low, high) = torch.linspace, (0.1, 9.5)
    karras = (high ** (1 / 5) + line(0, 1, 9) * (low ** (1 / 5) - high ** (1 / 5))) ** 5
    assert np.allclose(sigmas("Karras", 9, LEVELS, sigma_min=low, sigma_max=high, rho=5.0)[:-1], karras)
    poly = (line(1, 0, 9) ** 3 * math.log(HIGH / low) + math.log(low)).exp()
    assert np.allclose(sigmas("Polyexponential", 9, LEVELS, sigma_min=low, rho=3.0)[:-1], poly)
    normal = at(line(time_of(high), time_of(low), 9))
    assert np.allclose(sigmas("Normal", 9, LEVELS, sigma_min=low, sigma_max=high)[:-1], normal, rtol=1e-5)
    assert np.array_equal(sigmas("Simple", 9, LEVELS, sigma_max=high), sigmas("Simple", 9, LEVELS))
    beta = [LOW + stats.beta.ppf(1 - i / 8, 0.9, 0.4) * (HIGH - LOW) for i in range(9)]
    assert np.allclose(sigmas("Beta", 9, LEVELS, alpha=0.9, beta=0.4)[:-1], beta)


def time_of(sigma: float) -> float:
    return float(np.interp(math.log(sigma), ALL.log().numpy(), np.arange(1000)))


def test_zero_terminal_snr_leaves_the_first_level_and_ends_in_noise() -> None:
    rescaled = LEVELS.zero_terminal_snr
    assert rescaled is LEVELS.zero_terminal_snr
    assert rescaled.sigmas[0] == pytest.approx(LOW, rel=1e-5)
    assert rescaled.sigmas[-1] == pytest.approx(4518.75, rel=1e-4)
    signal = np.sqrt(rescaled.alphas_cumprod[1:-1]) / np.sqrt(ABAR[1:-1]) - 1
    assert (np.diff(signal) < 1e-6).all()


def test_halved_levels_are_computed_with_as_a1111_computes_with_half_precision() -> None:
    levels, alphas = LEVELS.halved, torch.tensor(ABAR, dtype=torch.float16)
    of_levels = ((1 - alphas) / alphas) ** 0.5
    assert np.array_equal(levels.sigmas, of_levels.double())
    assert levels.sigma_min == 0.03125  # of 0.0292, half a step of half precision away
    logs, t = of_levels.log(), torch.linspace(999, 0, 7)
    part = t.frac()
    sigmas = ((1 - part) * logs[t.floor().long()] + part * logs[t.ceil().long()]).exp()
    assert np.array_equal(levels.t_to_sigma(t), sigmas.double())
    assert [levels.sigma_to_t(float(sigma)) for sigma in sigmas] == pytest.approx(t.tolist(), abs=1e-2)
    single = levels.in_single_precision
    assert np.array_equal(single.alphas_cumprod, levels.alphas_cumprod)
    assert single.sigmas[0] != levels.sigmas[0]


@pytest.mark.parametrize(
    "option", [{"use_downcasted_alpha_bar": True}, {"sd_noise_schedule": "Zero Terminal SNR"}]
)
@pytest.mark.parametrize(
    ("changes", "second_pass", "moved"),
    [
        ({"sampler_name": "Euler", "txt2img": True}, False, True),
        ({"sampler_name": "Euler"}, False, False),  # whose sampler A1111 makes before it heeds the options
        ({"sampler_name": "Euler"}, True, True),
        ({"sampler_name": "DDIM"}, False, True),
        ({"sampler_name": "LCM", "txt2img": True}, False, True),
    ],
)
def test_levels_change_for_samplers_that_a1111_makes_later(
    option: dict[str, Any], changes: dict[str, Any], second_pass: bool, moved: bool
) -> None:
    keys = [PlanKey.of(Params(**changes, **more), second_pass=second_pass) for more in ({}, option)]
    plain, changed = (compile_plan(key, LEVELS).sigmas for key in keys)
    assert np.array_equal(plain, changed) is not moved


@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M SDE", "Restart"])
def test_whole_timesteps_are_the_nearest_and_the_sigmas_stay(sampler: str) -> None:
    keys = [PlanKey.of(Params(sampler_name=sampler, enable_quantization=whole)) for whole in (False, True)]
    plain, whole = (compile_plan(key, LEVELS) for key in keys)
    assert np.array_equal(plain.sigmas, whole.sigmas)
    assert np.array_equal(whole.timesteps, whole.timesteps.round())
    assert np.abs(plain.timesteps - whole.timesteps).max() <= 0.51
    assert not np.array_equal(plain.timesteps, plain.timesteps.round())


def test_a_level_without_a_sigma_is_refused() -> None:
    both: dict[str, Any] = {"use_downcasted_alpha_bar": True, "sd_noise_schedule": "Zero Terminal SNR"}
    with pytest.raises(Refused, match="leave one of the two out"):
        compile_plan(PlanKey.of(Params(txt2img=True, **both)), LEVELS)
    assert len(compile_plan(PlanKey.of(Params(txt2img=True, sampler_name="DDIM", **both)), LEVELS).sigmas)


@pytest.mark.parametrize("levels", [LEVELS, LEVELS.log_alpha()], ids=["log sigma", "log alpha"])
def test_timesteps_and_sigmas_are_inverse(levels: NoiseLevels) -> None:
    for t in [0.0, 0.25, 17.5, 500.125, 999.0]:
        assert levels.sigma_to_t(float(levels.t_to_sigma(t))) == pytest.approx(t, abs=1e-4)
    assert levels.sigma_to_t(1e-5) == 0
    assert levels.sigma_to_t(1e5) == 999


def test_a_consistency_model_is_told_one_of_its_fifty_timesteps() -> None:
    levels = LEVELS.every(20)
    assert levels.timesteps.tolist() == [*range(19, 1000, 20)]
    assert levels.sigmas[0] == LEVELS.sigmas[19]
    assert levels.sigma_to_t(float(LEVELS.sigmas[500])) == 499
    assert sigmas("Uniform", 4, levels)[0] == pytest.approx(LEVELS.sigma_max)
