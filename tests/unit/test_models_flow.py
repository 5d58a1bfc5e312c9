"""SD 3 and Flux render what diffusers' img2img pipelines render, given the same noise and the same steps."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from img2img_shared.errors import Refused
from img2img_shared.samplers import SAMPLERS, SCHEDULERS
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.render import Render
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.family import Family
from img2img_worker.sampling.plan import compile_plan
from img2img_worker.sampling.plan_key import PlanKey
from tests import checkpoints
from tests.unit.engine_toys import render

Build = Callable[[Path], Path]
Picture = NDArray[np.uint8]
PROMPT, NEGATIVE = "the red cat, a dog", "dog"
FLOWS: tuple[Build, ...] = (
    checkpoints.sd3,
    checkpoints.sd35,
    checkpoints.flux_dev,
    checkpoints.flux_schnell,
)
STEPS = 8

Opened = Callable[[Build], tuple[Path, Family]]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:

    @cache
    def open_it(build: Build) -> tuple[Path, Family]:
        folder = checkpoints.cached(tmp_path_factory, build)
        return folder, open_checkpoint(folder)

    return open_it


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (64, 112)], ids=str)
@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("build", FLOWS, ids=lambda build: build.__name__)
def test_a_picture_is_that_of_diffusers_img2img(
    build: Build, strength: float, size: tuple[int, int], opened: Opened
) -> None:
    folder, family = opened(build)
    wanted = _diffusers(folder, family, size, strength=strength)
    found = _ours(family, size, strength=strength)
    assert found.shape == wanted.shape == (size[1], size[0], 3)
    assert np.abs(found - wanted).mean() < 0.02
    # what it says and what it starts from both matter, or the line above would say little
    for other in (_ours(family, size, strength=strength, seed=9), _ours(family, size, strength=0.1)):
        assert np.abs(found - other).mean() > 1
    assert np.abs(found - _ours(family, size, strength=strength, prompt="a")).mean() > 0.1


@pytest.mark.parametrize("scale", [1.0, 3.5, 8.0])
def test_flux_dev_is_told_its_guidance(scale: float, opened: Opened) -> None:
    folder, family = opened(checkpoints.flux_dev)
    wanted = _diffusers(folder, family, (64, 64), guidance_scale=scale)
    found = _ours(family, (64, 64), distilled_cfg_scale=scale)
    assert np.abs(found - wanted).mean() < 0.02
    assert np.abs(found - _ours(family, (64, 64), distilled_cfg_scale=scale + 3)).mean() > 0.1


def test_flux_dev_has_a_guidance_where_none_is_named(opened: Opened) -> None:
    _, family = opened(checkpoints.flux_dev)
    named = _ours(family, (64, 64), distilled_cfg_scale=3.5)
    assert np.array_equal(_ours(family, (64, 64)), named)


@pytest.mark.parametrize(
    "build", [checkpoints.sd3, checkpoints.flux_schnell], ids=lambda build: build.__name__
)
def test_who_is_told_no_guidance_refuses_one(build: Build, opened: Opened) -> None:
    _, family = opened(build)
    with Engine(family) as engine, pytest.raises(Refused, match="distilled_cfg_scale"):
        engine.submit(render(distilled_cfg_scale=2.0)).result(60)


@pytest.mark.parametrize("build", FLOWS, ids=lambda build: build.__name__)
def test_pictures_of_several_sizes_and_guidances_do_not_meddle(build: Build, opened: Opened) -> None:
    _, family = opened(build)
    several = [
        _render((64, 64), seed=1),
        _render((96, 64), seed=2, prompt="a"),
        _render((64, 64), seed=3, **({"distilled_cfg_scale": 7.0} if family.distilled else {})),
        _render((64, 96), seed=4, cfg_scale=1.0),
        _render((64, 64), seed=5, sampler_name="DPM++ 2M", prompt="the (dog:1.3)"),
    ]
    alone = [_rendered(family, [each])[0] for each in several]
    for one, shared in zip(alone, _rendered(family, several), strict=True):
        assert np.array_equal(one, shared)
    # in common model calls, too
    for one, shared in zip(alone, _rendered(family, several, deterministic=False), strict=True):
        assert np.abs(one.astype(int) - shared).max() <= 1


def test_a_larger_picture_starts_with_more_noise(opened: Opened) -> None:
    _, family = opened(checkpoints.flux_dev)
    small, large = (
        compile_plan(PlanKey.of(_render(size).params), family.levels((size[1] // 8, size[0] // 8)))
        for size in ((64, 64), (128, 128))
    )
    assert (small.sigmas < large.sigmas).all()
    assert family.levels((8, 8)) is family.levels((8, 8))


@pytest.mark.parametrize("build", [checkpoints.sd3, checkpoints.flux_dev], ids=lambda build: build.__name__)
def test_sides_of_half_a_patch_are_refused_with_the_right_ones(build: Build, opened: Opened) -> None:
    _, family = opened(build)
    with Engine(family) as engine, pytest.raises(Refused) as refused:
        engine.submit(render(width=72))
    assert refused.value.field == "width, height"
    assert "(72, 64)" in str(refused.value)
    assert "multiples of 16" in str(refused.value)


def test_sd3_refuses_a_size_beyond_its_positions(opened: Opened) -> None:
    _, family = opened(checkpoints.sd3)
    with pytest.raises(Refused, match="multiples of 16 up to 256"):
        family.levels((8, 34))


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_sampler_reaches_the_end_of_a_flow(name: str, opened: Opened) -> None:
    _, family = opened(checkpoints.flux_dev)
    params: dict[str, Any] = {"steps": 40, "scheduler": "Automatic" if name == "Restart" else "Simple"}
    found = _ours(family, (64, 64), sampler_name=name, **params)
    if name in {"Heun", "DPM2", "DPM++ 2M", "LMS"}:  # the same flow, followed in other ways
        assert np.abs(found - _ours(family, (64, 64), **params)).mean() < 3
    assert found.std() > 1


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "Align Your Steps"])
def test_every_schedule_is_one_of_a_flow(name: str, opened: Opened) -> None:
    _, family = opened(checkpoints.flux_dev)
    key = PlanKey(sampler_name="Euler", scheduler=name, steps=8, denoising_strength=1)
    plan = compile_plan(key, family.levels((8, 8)))
    shares = plan.sigmas / (1 + plan.sigmas)
    if name != "DDIM":  # it counts from the second level in strides
        assert shares[0] == pytest.approx(1, abs=1e-5)
    assert (np.diff(shares) < 0).all()
    assert plan.timesteps == pytest.approx(1000 * shares)


def test_align_your_steps_is_refused_for_a_flow(opened: Opened) -> None:
    _, family = opened(checkpoints.flux_dev)
    with Engine(family) as engine, pytest.raises(Refused, match="a flow model has no such noise levels"):
        engine.submit(render(scheduler="Align Your Steps"))


def _render(size: tuple[int, int], *, seed: int = 7, strength: float = 0.5, **params: Any) -> Render:
    """Of a strength as diffusers counts it: of the same one, A1111 runs a step more."""
    values: dict[str, Any] = {"cfg_scale": 3.0, "steps": STEPS, "scheduler": "Simple"} | params
    return render(
        seed,
        prompt=values.pop("prompt", PROMPT),
        negative_prompt=NEGATIVE,
        width=size[0],
        height=size[1],
        denoising_strength=strength - 0.5 / STEPS,
        **values,
    )


def _ours(family: Family, size: tuple[int, int], **what: Any) -> Any:
    return _rendered(family, [_render(size, **what)])[0].astype(float)


def _rendered(family: Family, renders: list[Render], *, deterministic: bool | None = None) -> list[Picture]:
    with Engine(family, slots=8, deterministic=deterministic) as engine:
        return [future.result(120) for future in [engine.submit(each) for each in renders]]


def _diffusers(
    folder: Path, family: Family, size: tuple[int, int], *, strength: float = 0.5, **arguments: Any
) -> Any:
    """The pipeline's picture of the same pixels, noise, guidance and steps."""
    each = _render(size)
    scale = each.params.cfg_scale
    without: dict[str, None] = {}
    if "flux" in folder.name:
        kind: Any = diffusers.FluxImg2ImgPipeline
        tokens = 512 if family.distilled else 256
        arguments = {
            "true_cfg_scale": scale,
            "guidance_scale": 3.5,
            "max_sequence_length": tokens,
        } | arguments
    else:
        kind = diffusers.StableDiffusion3Img2ImgPipeline
        arguments = {"guidance_scale": scale, "max_sequence_length": 77}
        if not (folder / "text_encoder_3").exists():
            without = {"text_encoder_3": None, "tokenizer_3": None}
    pipeline = kind.from_pretrained(folder, local_files_only=True, low_cpu_mem_usage=False, **without)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        image=family.encode(torch.from_numpy(each.pixels)[None]),
        strength=strength,
        num_inference_steps=STEPS,
        # else diffusers' SD 3 spreads them from its last level to its first, and shifts them once more
        sigmas=np.linspace(1, 1 / STEPS, STEPS).tolist(),
        generator=torch.Generator().manual_seed(each.seed),
        width=size[0],
        height=size[1],
        output_type="np",
        **arguments,
    ).images[0]
    return np.floor(picture * 255)
