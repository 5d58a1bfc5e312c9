"""Stable Diffusion 3 renders what diffusers' pipeline renders, although the engine sees a noise predictor."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from img2img_worker.models.family import Cond, Family, guide
from img2img_worker.models.loading import open_checkpoint
from img2img_worker.models.sd3 import flow_levels
from tests import checkpoints

PROMPT, NEGATIVE, SCALE = "the red cat", "a dog", 4.0
#: a flow's sigmas; the last step ends at 0
SIGMAS = (0.9, 0.6, 0.3, 0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return checkpoints.cached(tmp_path_factory, checkpoints.sd3)


@pytest.fixture(scope="module")
def family(folder: Path) -> Family:
    return open_checkpoint(folder)


def test_it_renders_what_diffusers_renders(family: Family, folder: Path) -> None:
    pipeline = diffusers.StableDiffusion3Pipeline.from_pretrained(
        folder, local_files_only=True, low_cpu_mem_usage=False, text_encoder_3=None, tokenizer_3=None
    )
    pipeline.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0)
    pipeline.set_progress_bar_config(disable=True)
    x = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(3))
    wanted = pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        guidance_scale=SCALE,
        sigmas=list(SIGMAS[:-1]),
        latents=x,
        width=64,
        height=64,
        max_sequence_length=77,
        output_type="np",
    ).images[0]
    found = _render(family, x / (1 - SIGMAS[0]), PROMPT, NEGATIVE)
    assert np.abs(found - _render(family, x / (1 - SIGMAS[0]), NEGATIVE, PROMPT)).mean() > 1
    assert np.abs(found - np.floor(wanted * 255)).mean() < 0.05


def test_its_levels_are_a_shifted_flows() -> None:
    levels = flow_levels(shift=3.0)
    # at half of the training's range, a shift of 3 leaves a quarter of the picture
    assert levels.timesteps[499] == pytest.approx(750)
    assert levels.sigmas[499] == pytest.approx(3)
    assert levels.sigma_to_t(3.0) == pytest.approx(750)
    assert (np.diff(levels.sigmas) > 0).all()
    assert np.isfinite(levels.sigmas).all()


def test_latents_are_shifted_before_they_are_scaled(family: Family, folder: Path) -> None:
    vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae", low_cpu_mem_usage=False)
    pixels = torch.randint(0, 256, (1, 64, 64, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    with torch.no_grad():
        mean = vae.encode(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist.mean
    torch.testing.assert_close(family.encode(pixels), (mean - 0.0609) * 1.5305, atol=1e-4, rtol=1e-4)


def _render(family: Family, x: Tensor, *prompts: str) -> Any:
    """Euler over variance-exploding sigmas, as the engine sees them."""
    conds = [family.conditions([prompt])[0] for prompt in prompts]
    branches = guide([(conds[0], 1.0)], conds[1], scale=SCALE)
    cond = Cond.stack([branch.cond for branch in branches])
    weights = torch.tensor([branch.weight for branch in branches])[:, None, None, None]
    for flow, after in pairwise(SIGMAS):
        sigma, sigma_next = flow / (1 - flow), after / (1 - after)
        rows = (x / (sigma**2 + 1) ** 0.5).expand(2, -1, -1, -1)
        answers = family.predict(rows, torch.full((2,), 1000 * flow), cond)
        x = x + (sigma_next - sigma) * (weights * answers).sum(0, keepdim=True)
    return family.decode(x)[0].numpy().astype(float)
