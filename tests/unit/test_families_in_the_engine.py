"""Whole pictures, through the engine: those of diffusers' img2img, inpainting and editing pipelines.

From the same init image, noise and sigmas, in both layouts of a checkpoint.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from img2img_shared.params import Params
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.render import Render
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.family import Family
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.plan import compile_plan
from img2img_worker.sampling.plan_key import PlanKey
from tests import checkpoints
from tests.original import write_original

Picture = NDArray[np.uint8]
Build = Callable[[Path], Path]
Opened = Callable[[Build, bool], tuple[Path, Family]]

PROMPT, NEGATIVE, SEED = "the red cat in the dog", "of blue", 5
CASES: dict[str, tuple[Build, Any]] = {
    "SD 1.x": (checkpoints.sd1, diffusers.StableDiffusionImg2ImgPipeline),
    "SD 2.x": (checkpoints.sd2, diffusers.StableDiffusionImg2ImgPipeline),
    "SD 1.x inpainting": (checkpoints.sd1_inpainting, diffusers.StableDiffusionInpaintPipeline),
    "SD 1.x edit": (checkpoints.edit, diffusers.StableDiffusionInstructPix2PixPipeline),
    "SDXL": (checkpoints.sdxl, diffusers.StableDiffusionXLImg2ImgPipeline),
    "SDXL refiner": (checkpoints.sdxl_refiner, diffusers.StableDiffusionXLImg2ImgPipeline),
    "SDXL inpainting": (checkpoints.sdxl_inpainting, diffusers.StableDiffusionXLInpaintPipeline),
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:

    @cache
    def open_it(build: Build, is_file: bool) -> tuple[Path, Family]:
        folder = checkpoints.cached(tmp_path_factory, build)
        return folder, open_checkpoint(
            _file(folder, tmp_path_factory.mktemp(build.__name__)) if is_file else folder
        )

    return open_it


@pytest.mark.parametrize(
    ("size", "params"),
    [
        ((96, 64), {"steps": 7, "denoising_strength": 0.4, "scheduler": "Karras", "cfg_scale": 3}),
        ((64, 112), {"steps": 5, "denoising_strength": 1.0, "scheduler": "SGM Uniform", "cfg_scale": 7}),
    ],
    ids=["part", "all"],
)
@pytest.mark.parametrize("is_file", [False, True], ids=["folder", "file"])
@pytest.mark.parametrize("name", CASES)
def test_a_picture_is_that_of_diffusers_own_pipeline(
    name: str, is_file: bool, size: tuple[int, int], params: dict[str, Any], opened: Opened
) -> None:
    build, kind = CASES[name]
    folder, family = opened(build, is_file)
    assert family.name == name
    more: dict[str, Any] = {"image_cfg_scale": 2.3} if family.edits else {}
    render = _render(size, Params(width=size[0], height=size[1], **params, **more))
    wanted = _diffusers(kind, folder, family, render)
    with Engine(family) as engine:
        found = engine.submit(render).result(60)
    assert np.abs(found.astype(int) - wanted).mean() < 0.05
    assert wanted.std() > 20  # there is something to see


def _render(size: tuple[int, int], params: Params) -> Render:
    width, height = size
    few = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    seen = np.zeros((height, width), np.uint8)
    seen[height // 4 : height // 2 + 3, width // 8 : width // 2 + 5] = 255
    return Render(
        params=params,
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        seed=SEED,
        subseed=0,
        pixels=np.array(Image.fromarray(few).resize(size, Image.Resampling.BICUBIC)),
        latent_size=(height // 8, width // 8),
        # no `mask`: A1111 blends with it between steps, diffusers' pipelines for 9 channels do not
        cond_mask=seen,
    )


def _diffusers(kind: Any, folder: Path, family: Family, render: Render) -> Picture:
    plan = compile_plan(PlanKey.of(render.params), family.levels(render.latent_size))
    sigmas = np.append(plan.sigmas, 0.0)
    assert render.pixels is not None
    init, generator = Image.fromarray(render.pixels), torch.Generator().manual_seed(SEED)
    arguments: dict[str, Any] = {"image": init, "generator": generator, "strength": 1.0}
    if family.edits:  # it begins with noise alone, of the scheduler's first sigma
        noise = torch.randn(1, 4, *render.latent_size, generator=generator)
        start = family.encode(torch.from_numpy(render.pixels)[None]) + sigmas[0] * noise
        arguments = {"image": init, "image_guidance_scale": render.params.image_cfg_scale, "latents": start}
    elif "inpainting" in family.name:
        # at full strength it forgets the picture: one step more, of which it leaves out the first
        sigmas = np.append(sigmas[0] + 1, sigmas)
        strength = 1 - 0.5 / (len(sigmas) - 1)
        mask = {"mask_image": Image.fromarray(_seen(render)), "width": init.width, "height": init.height}
        arguments |= {**mask, "strength": strength}
    pipeline = _pipeline(kind, folder, sigmas)
    if family.edits:
        arguments["latents"] /= pipeline.scheduler.init_noise_sigma
    picture = pipeline(
        prompt=render.prompt,
        negative_prompt=render.negative_prompt,
        guidance_scale=render.params.cfg_scale,
        num_inference_steps=len(sigmas) - 1,
        output_type="np",
        **arguments,
    ).images[0]
    return np.asarray(picture * 255).astype(np.uint8)


def _pipeline(kind: Any, folder: Path, sigmas: NDArray[np.float64]) -> Any:
    without = {"add_watermarker": False} if "XL" in kind.__name__ else {"safety_checker": None}
    pipeline = kind.from_pretrained(folder, **without)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = _scheduler(pipeline.scheduler.config, sigmas)
    encode = pipeline.vae.encode

    def mean_only(*args: Any, **more: Any) -> Any:  # diffusers samples the posterior
        encoded = encode(*args, **more)
        encoded.latent_dist.sample = lambda generator=None: encoded.latent_dist.mean  # noqa: ARG005
        return encoded

    pipeline.vae.encode = mean_only
    return pipeline


def _scheduler(config: Any, given: NDArray[np.float64]) -> Any:
    """diffusers' Euler over the given sigmas, however many steps it is asked for."""
    scheduler = EulerDiscreteScheduler.from_config(config, timestep_spacing="linspace")
    levels = NoiseLevels.from_alphas_cumprod(scheduler.alphas_cumprod.numpy())

    def set_timesteps(*_: object, **__: object) -> None:
        scheduler.sigmas = torch.tensor(given, dtype=torch.float32)
        scheduler.timesteps = torch.tensor([levels.sigma_to_t(sigma) for sigma in given[:-1]])
        scheduler.num_inference_steps = len(scheduler.timesteps)
        scheduler._step_index = scheduler._begin_index = None

    scheduler.set_timesteps = set_timesteps
    set_timesteps()
    return scheduler


def _seen(render: Render) -> Picture:
    if render.cond_mask is None:
        raise ValueError("a render without its mask")
    return render.cond_mask


def _file(folder: Path, into: Path) -> Path:
    path = write_original(folder, into / "model.safetensors")
    if "v_prediction" in (folder / "scheduler" / "scheduler_config.json").read_text():
        # what it answers tells that of a trained 2.x, not of these weights
        save_file(load_file(path) | {"v_pred": torch.zeros(0)}, path)
    return path
