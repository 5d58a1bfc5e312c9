"""A second opinion: diffusers' schedulers, where they define the same thing, from the first step on."""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from img2img_shared.samplers import SAMPLERS
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.plan import Plan, compile_plan
from img2img_worker.sampling.plan_key import PlanKey
from tests.unit.sampling_reference import Latent

# diffusers hands tensors to numpy in a way that numpy 2 warns about
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TRAINED = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
RNG = np.random.default_rng(0)
Z0, NOISE = RNG.normal(size=(2, 1, 4, 6, 6))
MIX = RNG.normal(size=(4, 4)) * 0.6


def epsilon(x: Latent, t: float) -> Latent:
    return np.asarray(np.tanh(np.einsum("ij,bjhw->bihw", MIX, x) + 0.3 * np.sin(0.01 * t)))


def executed(plan: Plan) -> Latent:
    history = [Z0, NOISE]
    for sigma, t, row, scale in zip(plan.sigmas, plan.timesteps, plan.inputs, plan.scale_in, strict=True):
        x = np.tensordot(row[: len(history)], history, 1)
        history.append(x - sigma * epsilon(x * scale, float(t)))
    return np.asarray(np.tensordot(plan.result, history, 1))


def run(scheduler: Any, x: Latent) -> Latent:
    latent = torch.from_numpy(x)
    for t in scheduler.timesteps:
        answer = epsilon(scheduler.scale_model_input(latent, t).numpy(), float(t))
        latent = scheduler.step(torch.from_numpy(answer), t, latent).prev_sample
    return np.asarray(latent.numpy())


def both(name: str, sampler: str, schedule: str, **options: Any) -> tuple[Plan, Any]:
    scheduler = getattr(diffusers, name)(**TRAINED, **options)
    scheduler.set_timesteps(20)
    levels = NoiseLevels.from_alphas_cumprod(scheduler.alphas_cumprod.numpy())
    key = PlanKey(
        sampler_name=sampler,
        scheduler=schedule,
        steps=20,
        denoising_strength=1.0,
        txt2img=SAMPLERS[sampler].timesteps,  # in img2img A1111 begins them one level too low
    )
    return compile_plan(key, levels), scheduler


@pytest.mark.parametrize(
    ("sampler", "name", "schedule", "option"),
    [
        ("Euler", "EulerDiscreteScheduler", "Karras", "use_karras_sigmas"),
        ("Euler", "EulerDiscreteScheduler", "Exponential", "use_exponential_sigmas"),
        ("Heun", "HeunDiscreteScheduler", "Karras", "use_karras_sigmas"),
        ("LMS", "LMSDiscreteScheduler", "Karras", "use_karras_sigmas"),
    ],
)
def test_a_variance_exploding_sampler_agrees(sampler: str, name: str, schedule: str, option: str) -> None:
    plan, scheduler = both(name, sampler, schedule, **{option: True})
    wanted = run(scheduler, Z0 + plan.sigmas[0] * NOISE)
    assert np.allclose(executed(plan), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_ddim_agrees_in_all_steps_but_the_last_which_a1111_leaves_out() -> None:
    plan, scheduler = both(
        "DDIMScheduler", "DDIM", "Automatic", set_alpha_to_one=False, steps_offset=1, clip_sample=False
    )
    scheduler.timesteps = scheduler.timesteps[:-1]
    assert scheduler.timesteps.tolist() == plan.timesteps.tolist()
    assert np.allclose(executed(plan), run(scheduler, NOISE), rtol=0, atol=1e-5)


def test_unipc_agrees_on_the_same_sigmas() -> None:
    plan, scheduler = both(
        "UniPCMultistepScheduler",
        "UniPC",
        "Automatic",
        solver_order=3,
        solver_type="bh1",
        final_sigmas_type="sigma_min",
    )
    last = (1 / scheduler.alphas_cumprod[0] - 1).sqrt()
    scheduler.sigmas = torch.tensor([*plan.sigmas, last], dtype=torch.float64)
    scheduler.timesteps = torch.from_numpy(plan.timesteps)
    assert np.allclose(executed(plan), run(scheduler, NOISE), rtol=0, atol=1e-5)
