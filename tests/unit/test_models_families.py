"""Every family of checkpoints renders what diffusers' own pipeline for it renders, from the same noise."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from PIL import Image
from torch import Tensor

from img2img_shared.params import Params
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.condition import Condition, Conditions
from img2img_worker.models.families.family import Family, GuidanceRow, guide
from img2img_worker.models.prompts.prompt_options import DEFAULTS, PromptOptions
from img2img_worker.models.steps import run_now
from tests import checkpoints
from tests.checkpoints import embedded
from tests.original import write_original
from tests.unit.mean_only import mean_only

# diffusers' scheduler hands numpy a tensor in a way that numpy 2 warns of
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROMPT, NEGATIVE = "the red cat", "a dog"
STEPS, SCALE = 3, 5.0

Build = Callable[[Path], Path]
NAMES: dict[Build, str] = {
    checkpoints.sd1: "SD 1.x",
    checkpoints.sd1_inpainting: "SD 1.x inpainting",
    checkpoints.edit: "SD 1.x edit",
    checkpoints.sd2: "SD 2.x",
    checkpoints.sdxl: "SDXL",
    checkpoints.sdxl_inpainting: "SDXL inpainting",
    checkpoints.sdxl_refiner: "SDXL refiner",
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Build], tuple[Path, Family]]:

    @cache
    def open_it(build: Build) -> tuple[Path, Family]:
        folder = checkpoints.cached(tmp_path_factory, build)
        return folder, open_checkpoint(folder)

    return open_it


Opened = Callable[[Build], tuple[Path, Family]]


@pytest.mark.parametrize(("build", "name"), NAMES.items(), ids=NAMES.values())
def test_a_family_is_recognised(build: Build, name: str, opened: Opened) -> None:
    _, family = opened(build)
    assert family.name == name
    assert family.prediction == ("v" if name == "SD 2.x" else "epsilon")
    assert family.edits == (name == "SD 1.x edit")
    assert family.levels((8, 8)).is_sdxl == name.startswith("SDXL")
    assert (family.latent_channels, family.vae_factor, family.side_multiple) == (4, 8, 8)
    assert family.native_side == 64, "as its folder says"


def test_sdxl_is_told_sizes_and_the_crop(opened: Opened) -> None:
    _, family = opened(checkpoints.sdxl)
    text = embedded(family, "a cat")
    params = Params(width=64, height=128, sdxl_crop_top=32, sdxl_crop_left=48)
    assert family.condition(text, params).tensors["time_ids"].tolist() == [128, 64, 32, 48, 128, 64]


def test_sdxls_refiner_is_told_a_score_for_either_prompt(opened: Opened) -> None:
    _, family = opened(checkpoints.sdxl_refiner)
    params = Params(width=64, height=128, refiner_checkpoint="x", sdxl_refiner_high_aesthetic_score=8)
    texts = [embedded(family, text, negative=negative) for text, negative in (("a cat", False), ("", True))]
    assert [family.condition(text, params).tensors["time_ids"].tolist() for text in texts] == [
        [128, 64, 0, 0, 8],
        [128, 64, 0, 0, 2.5],
    ]
    assert not texts[1].context.any(), "an empty negative prompt is zeros"


def test_what_a_network_is_read_from_is_its_kind_or_the_file_beside_it(
    opened: Opened, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _, family = opened(checkpoints.sd1)
    assert family.configuration is None, "A1111 knows none of that width"
    file = write_original(checkpoints.cached(tmp_path_factory, checkpoints.sd1), tmp_path / "own.safetensors")
    beside = tmp_path / "own.yaml"
    beside.write_text("model: {params: {}}")
    assert open_checkpoint(file).configuration == str(beside)


def test_of_sdxls_text_encoders_the_first_alone_may_skip(opened: Opened) -> None:
    _, family = opened(checkpoints.sdxl)
    options = PromptOptions(clip_skip=1, sdxl_clip_l_skip=True)
    plain, skipped = (embedded(family, "a cat", options=each) for each in (DEFAULTS, options))
    changed = (plain.context != skipped.context).any(0)
    assert changed[: len(changed) // 2].any()
    assert not changed[len(changed) // 2 :].any()


def test_clip_skip_has_no_effect_on_sd_2_even_where_sdxl_may_skip(opened: Opened) -> None:
    _, family = opened(checkpoints.sd2)
    options = PromptOptions(clip_skip=3, sdxl_clip_l_skip=True)
    plain, skipped = (embedded(family, "a cat", options=each) for each in (DEFAULTS, options))
    torch.testing.assert_close(skipped.context, plain.context, rtol=0, atol=0)


@pytest.mark.parametrize("build", [checkpoints.sd1, checkpoints.sd2], ids=["SD 1.x", "SD 2.x"])
def test_text_guides_as_in_diffusers(build: Build, opened: Opened) -> None:
    folder, family = opened(build)
    pipeline = _pipeline(diffusers.StableDiffusionPipeline, folder)
    wanted = _diffusers(pipeline, width=64, height=64)
    rows = _conditions(family)
    assert _difference(_render(family, guide([(rows[0], 1.0)], rows[1], scale=SCALE)), wanted) < 0.05


def test_sdxl_knows_both_encoders_and_its_size(opened: Opened) -> None:
    folder, family = opened(checkpoints.sdxl)
    pipeline = _pipeline(diffusers.StableDiffusionXLPipeline, folder, add_watermarker=False)
    wanted = _diffusers(pipeline, width=64, height=64)
    rows = _conditions(family)
    assert _difference(_render(family, guide([(rows[0], 1.0)], rows[1], scale=SCALE)), wanted) < 0.05


@pytest.mark.parametrize(
    ("build", "pipeline_class"),
    [
        (checkpoints.sd1_inpainting, diffusers.StableDiffusionInpaintPipeline),
        (checkpoints.sdxl_inpainting, diffusers.StableDiffusionXLInpaintPipeline),
    ],
    ids=["SD 1.x", "SDXL"],
)
def test_inpainting_sees_the_mask_and_what_is_left(build: Build, pipeline_class: Any, opened: Opened) -> None:
    folder, family = opened(build)
    pixels, mask = _picture(), _mask()
    more = {"add_watermarker": False} if "xl" in build.__name__ else {}
    # diffusers samples the masked picture's posterior; A1111 and the farm take its mean
    pipeline = mean_only(_pipeline(pipeline_class, folder, **more))
    wanted = _diffusers(
        pipeline,
        image=Image.fromarray(pixels),
        mask_image=Image.fromarray(mask),
        strength=1.0,
        width=64,
        height=64,
    )
    seen = run_now(family.picture(torch.from_numpy(pixels)[None], torch.from_numpy(mask)[None]))
    assert seen is not None
    assert seen.shape == (1, 5, 8, 8)
    rows = _conditions(family, seen[0])
    assert _difference(_render(family, guide([(rows[0], 1.0)], rows[1], scale=SCALE)), wanted) < 0.05


def test_editing_is_guided_by_the_picture_too(opened: Opened) -> None:
    folder, family = opened(checkpoints.edit)
    pixels = _picture()
    pipeline = _pipeline(diffusers.StableDiffusionInstructPix2PixPipeline, folder)
    wanted = _diffusers(pipeline, image=Image.fromarray(pixels), image_guidance_scale=1.7)
    seen = run_now(family.picture(torch.from_numpy(pixels)[None], None))
    assert seen is not None
    rows = _conditions(family, seen[0])
    branches = guide([(rows[0], 1.0)], rows[1], scale=SCALE, image_scale=1.7)
    assert len(branches) == 3
    assert _difference(_render(family, branches), wanted) < 0.05


def test_a_soft_mask_stays_soft_unless_it_is_rounded(opened: Opened) -> None:
    _, family = opened(checkpoints.sd1_inpainting)
    pixels, mask = torch.from_numpy(_picture())[None], torch.full((1, 64, 64), 100, dtype=torch.uint8)
    soft, hard = (run_now(family.picture(pixels, mask, mask_round=rounds)) for rounds in (False, True))
    assert soft is not None
    assert hard is not None
    assert torch.all(soft[:, 0] == 100 / 255)
    assert torch.all(hard[:, 0] == 0)
    torch.testing.assert_close(hard[:, 1:], family.encode(pixels))
    assert not torch.allclose(soft[:, 1:], hard[:, 1:], atol=1e-3)


def test_without_a_mask_everything_is_repainted(opened: Opened) -> None:
    _, family = opened(checkpoints.sd1_inpainting)
    seen = run_now(family.picture(torch.from_numpy(_picture())[None], None))
    assert seen is not None
    assert torch.all(seen[:, 0] == 1)
    grey = torch.full((1, 64, 64, 3), 127.5)
    torch.testing.assert_close(seen[:, 1:], family.encode(grey), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_a_light_mask_lets_the_picture_be_seen(opened: Opened, weight: float) -> None:
    _, family = opened(checkpoints.sd1_inpainting)
    pixels = torch.from_numpy(_picture())[None]
    seen = run_now(family.picture(pixels, None, mask_weight=weight))
    assert family.inpaints
    assert seen is not None
    assert torch.all(seen[:, 0] == 1)
    shown = 127.5 + (1 - weight) * (pixels - 127.5)
    torch.testing.assert_close(seen[:, 1:], family.encode(shown), atol=1e-5, rtol=1e-4)


def test_other_checkpoints_look_at_no_picture(opened: Opened) -> None:
    for build in (checkpoints.sd1, checkpoints.sdxl):
        _, family = opened(build)
        assert not family.inpaints
        assert run_now(family.picture(torch.from_numpy(_picture())[None], None)) is None


def _conditions(family: Family, picture: Tensor | None = None) -> list[Condition]:
    texts = [embedded(family, PROMPT), embedded(family, NEGATIVE, negative=True)]
    return [family.condition(text, Params(width=64, height=64), picture=picture) for text in texts]


def _noise() -> Tensor:
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))


def _picture() -> Any:
    return np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def _mask() -> Any:
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[16:40, 8:56] = 255
    return mask


def _pipeline(kind: Any, folder: Path, **more: Any) -> Any:
    if "XL" not in kind.__name__:
        more |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = kind.from_pretrained(folder, local_files_only=True, low_cpu_mem_usage=False, **more)
    pipeline.scheduler = _scheduler(pipeline.scheduler.config.prediction_type)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _scheduler(prediction: str) -> Any:
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return EulerDiscreteScheduler(**betas, prediction_type=prediction)


def _diffusers(pipeline: Any, **arguments: Any) -> Any:
    arguments = {"num_inference_steps": STEPS, "guidance_scale": SCALE, "output_type": "np"} | arguments
    output = pipeline(PROMPT, negative_prompt=NEGATIVE, latents=_noise(), **arguments)
    return output.images[0]


def _render(family: Family, branches: list[GuidanceRow]) -> Any:
    """Euler's steps over diffusers' sigmas, with nothing of the farm but the family."""
    scheduler = _scheduler("epsilon")
    scheduler.set_timesteps(STEPS)
    sigmas = scheduler.sigmas
    x = _noise() * scheduler.init_noise_sigma
    conditions = Conditions.stack([branch.condition for branch in branches])
    weights = torch.tensor([branch.weight for branch in branches])[:, None, None, None]
    for sigma, after, t in zip(sigmas, sigmas[1:], scheduler.timesteps, strict=False):
        scale = 1 / (sigma**2 + 1).sqrt()
        rows = (x * scale).expand(len(branches), -1, -1, -1)
        answers = family.predict(rows, t.float().expand(len(branches)), conditions)
        answer = (weights * answers).sum(0, keepdim=True)
        noise = answer if family.prediction == "epsilon" else answer * scale + x * scale**2 * sigma
        x = x + (after - sigma) * noise
    return family.decode(x).pixels[0].numpy()


def _difference(pixels: Any, wanted: Any) -> float:
    """Mean absolute difference in 255ths, beyond the truncation."""
    assert pixels.std() > 10
    return float(np.abs(pixels - np.floor(wanted * 255)).mean())
