"""A1111's hires fix: its sizes, its two passes, and what a picture's text tells of them."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_shared.hires import LATENT_UPSCALERS, hires_size
from img2img_shared.job import Input
from img2img_shared.params import Params
from img2img_shared.picture_texts import read_texts
from img2img_shared.upscaler_names import BUILT_IN
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.render import Render
from img2img_worker.farm.hires_recipe import hires_fix
from img2img_worker.farm.recipe import recipe
from img2img_worker.farm.render_steps import RenderSteps
from img2img_worker.farm.served import Served
from img2img_worker.models.steps import Steps, without_steps
from tests.unit.engine_toys import ToyFamily
from tests.unit.test_recipe import SERVED, finished, job

HIRES: dict[str, Any] = {"txt2img": True, "enable_hr": True, "denoising_strength": 0.5, "steps": 4}


def params(**changes: Any) -> Params:
    return Params(**{"width": 64, "height": 96, "seed": 1, "subseed": 2, **HIRES, **changes})


@pytest.mark.parametrize(
    ("changes", "size", "surplus"),
    [
        ({}, (128, 192), (0, 0)),
        ({"hr_scale": 1.3}, (83, 124), (0, 0)),
        ({"hr_resize_x": 128}, (128, 192), (0, 0)),
        ({"hr_resize_y": 200}, (133, 200), (0, 0)),
        ({"hr_resize_x": 192, "hr_resize_y": 192}, (192, 288), (0, 96)),
        ({"hr_resize_x": 100, "hr_resize_y": 190}, (126, 190), (26, 0)),
    ],
)
def test_sizes_are_a1111s(changes: Any, size: tuple[int, int], surplus: tuple[int, int]) -> None:
    found = hires_size(params(**changes))
    assert (found.width, found.height) == size
    assert (found.surplus_width, found.surplus_height) == surplus


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hr_scale": 0.5}, "hr_scale"),
        ({"hr_resize_x": 4096, "hr_resize_y": 4096}, "hr_scale"),
        ({"hr_upscaler": ""}, "hr_upscaler"),
        ({"hr_sampler_name": "Nosuch"}, "hr_sampler_name"),
        ({"hr_scheduler": "Nosuch"}, "hr_scheduler"),
        ({"hr_sampler_name": "DPM++ SDE", "seed": -2}, "seed"),
        ({"txt2img": False}, "enable_hr"),
        ({"enable_hr": False, "hr_prompt": "a dog"}, "hr_prompt"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: Any, field: str) -> None:
    with pytest.raises((Refused, ValueError), match=field):
        params(**changes)


def test_a_samplers_name_may_end_in_the_schedules() -> None:
    names = params(hr_sampler_name="DPM++ 2M Karras")
    assert (names.hr_sampler_name, names.hr_scheduler) == ("DPM++ 2M", "Karras")
    assert params(hr_sampler_name="DPM++ 2M").hr_scheduler is None


def test_what_acts_on_the_second_pass_alone_may_be_given() -> None:
    assert params(sampler_name="Euler", hr_scheduler="Karras", rho=5).rho == 5
    assert params(sampler_name="LMS", hr_sampler_name="Euler a", eta=0.5).eta == 0.5
    with pytest.raises(Refused, match="rho"):
        params(sampler_name="Euler", hr_scheduler="Simple", rho=5)


def first(**changes: Any) -> Render:
    own = params(**changes)
    return Render(
        params=own,
        prompt="a cat",
        negative_prompt="bad",
        seed=1,
        subseed=2,
        latent_size=(own.height // 8, own.width // 8),
    )


def followed(steps: RenderSteps[Any], *answers: NDArray[Any]) -> list[Render]:
    """The renders that it wants, one after the other, while it is sent these."""
    renders = [next(steps)[0]]
    renders += [steps.send([answer])[0] for answer in answers]
    return renders


LATENT = np.random.default_rng(0).normal(size=(4, 12, 8)).astype(np.float32)
PICTURE = np.random.default_rng(1).integers(0, 256, (96, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("upscaler", LATENT_UPSCALERS)
def test_a_latent_is_enlarged_and_rendered_from(upscaler: str) -> None:
    low, high = followed(hires_fix(first(hr_upscaler=upscaler, hr_second_pass_steps=7), 8), LATENT)
    assert low.wants_latent
    assert low.pixels is None
    assert low.latent is None
    assert high.latent is not None
    assert high.latent.shape == (4, 24, 16)
    assert high.latent_size == (24, 16)
    assert not high.wants_latent
    own = high.params
    assert (own.steps, own.fix_steps, own.txt2img, own.enable_hr) == (7, True, False, False)
    assert (high.prompt, high.negative_prompt, high.seed, high.subseed) == ("a cat", "bad", 1, 2)
    if upscaler == "Latent (nearest)":
        np.testing.assert_array_equal(high.latent, LATENT.repeat(2, 1).repeat(2, 2))


@pytest.mark.parametrize(
    ("changes", "read_with"),
    [
        ({}, None),
        ({"hires_fix_use_firstpass_conds": True}, "a cat"),
        ({"hires_fix_use_firstpass_conds": True, "hr_checkpoint_name": "sd15"}, None),
    ],
)
def test_the_second_prompts_may_be_read_with_the_first_ones_loras(
    changes: dict[str, Any], read_with: str | None
) -> None:
    high = followed(hires_fix(first(hr_prompt="a dog", **changes), 8), LATENT)[-1]
    assert (high.prompt, high.read_with) == ("a dog", read_with)


@pytest.mark.parametrize("upscaler", BUILT_IN)
def test_a_picture_is_enlarged_and_encoded(upscaler: str) -> None:
    render = first(hr_upscaler=upscaler, hr_resize_x=128, hr_resize_y=128, hr_prompt="a dog")
    encoded = np.zeros((4, 24, 16), np.float32)
    encoded[:, 4:20] = 1
    low, unchanged, high = followed(hires_fix(render, 8), PICTURE, encoded)
    assert low.params == render.params
    assert unchanged.params.steps == 0
    assert unchanged.wants_latent
    assert unchanged.pixels is not None
    assert unchanged.pixels.shape == (192, 128, 3)
    if upscaler == "Nearest":
        np.testing.assert_array_equal(unchanged.pixels, PICTURE.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(high.latent, 1)  # what is over in height was cut off, evenly
    assert high.latent_size == (16, 16)
    assert (high.prompt, high.negative_prompt) == ("a dog", "bad")


def test_a_picture_is_enlarged_by_a_network_as_often_as_it_takes() -> None:
    def run(name: str, image: Image.Image) -> Image.Image:
        assert name == "2x-cat"
        return image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST)

    steps = hires_fix(first(hr_upscaler="2x-cat", hr_scale=3), 8, run=run)
    _, unchanged = followed(steps, PICTURE)
    four_times = Image.fromarray(PICTURE.repeat(4, 0).repeat(4, 1))
    expected = four_times.resize((192, 384), Image.Resampling.LANCZOS).resize(
        (192, 288), Image.Resampling.LANCZOS
    )
    np.testing.assert_array_equal(unchanged.pixels, np.asarray(expected))


def test_an_inpainting_checkpoint_sees_what_is_enlarged_as_a1111_shows_it() -> None:
    half = {"inpainting_mask_weight": 0.5}
    high = followed(hires_fix(first(hr_upscaler="Latent", **half), 8), LATENT)[-1]
    assert (high.cond_pixels, high.pixels, high.shows_latent) == (None, None, True)
    whole = followed(hires_fix(first(hr_upscaler="Latent"), 8), LATENT)[-1]
    assert (whole.cond_pixels, whole.pixels, whole.shows_latent) == (None, None, False)
    steps = hires_fix(first(hr_upscaler="Nearest", **half), 8)
    (*_, high) = followed(steps, PICTURE, np.zeros((4, 24, 16), np.float32))
    assert high.cond_pixels is not None
    brighter = 127.5 + PICTURE.repeat(2, 0).repeat(2, 1) / 2  # 0..1 where -1..1 is expected
    np.testing.assert_array_equal(high.cond_pixels, brighter)
    steps = hires_fix(first(hr_upscaler="Nearest", hr_resize_x=128, hr_resize_y=128), 8)
    (*_, high) = followed(steps, PICTURE, np.zeros((4, 24, 16), np.float32))
    np.testing.assert_array_equal(high.cond_pixels, brighter[32:160])


class Inpainting(ToyFamily):
    """A toy that remembers what it has been shown."""

    def picture(self, pixels: Tensor, masks: Tensor | None, **more: Any) -> Steps[Tensor | None]:
        self.shown = pixels[0].numpy(), masks, more["mask_weight"]
        return without_steps(torch.zeros(1, 5, 8, 8))


def test_a_checkpoint_is_shown_another_picture_than_the_latent_it_begins_from() -> None:
    family = Inpainting(inpaints=True)
    seen = np.full((64, 64, 3), 0.5, np.float32)
    own = Params(width=64, height=64, steps=1, seed=1, subseed=2, inpainting_mask_weight=0.25)
    render = replace(first(), params=own, latent=np.zeros((4, 8, 8), np.float32), latent_size=(8, 8))
    with Engine(family, slots=1) as engine:
        engine.submit(replace(render, cond_pixels=seen)).result(60)
        assert family.shown[1:] == (None, 0.25)
        np.testing.assert_array_equal(family.shown[0], seen)
        engine.submit(render).result(60)
        assert family.shown[1:] == (None, 1.0)
        assert not family.shown[0].any()


def test_a_checkpoint_is_shown_the_latent_as_it_is_decoded_and_not_as_it_is_saved() -> None:
    family = Inpainting(inpaints=True)
    own = Params(width=64, height=64, steps=1, seed=1, subseed=2, inpainting_mask_weight=0.25)
    latent = np.full((4, 8, 8), -3, np.float32)  # darker than black
    render = replace(first(), params=own, latent=latent, latent_size=(8, 8), shows_latent=True)
    with Engine(family, slots=1) as engine:
        engine.submit(render).result(60)
        assert family.shown[1:] == (None, 0.25)
        np.testing.assert_array_equal(family.shown[0], np.full((64, 64, 3), (-3 + 1) * 127.5))


@pytest.mark.parametrize("upscaler", ["Latent", "Lanczos"])
def test_two_passes_through_the_engine_are_txt2img_and_then_img2img(upscaler: str) -> None:
    family = ToyFamily()
    with Engine(family, slots=1) as engine:

        def rendered(render: Render) -> NDArray[Any]:
            answer: NDArray[Any] = engine.submit(render).result(60)
            return answer

        steps = hires_fix(first(hr_upscaler=upscaler, hr_scale=1.5), 8)
        renders = next(steps)
        renders = steps.send([rendered(each) for each in renders])
        if upscaler == "Lanczos":  # encoded in between
            renders = steps.send([rendered(each) for each in renders])
        with pytest.raises(StopIteration) as end:
            steps.send([rendered(each) for each in renders])
        _, high, picture = end.value.value
        assert picture.shape == (144, 96, 3)
        np.testing.assert_array_equal(rendered(high), picture)
        low = first(enable_hr=False)
        other = replace(low, params=low.params.model_copy(update={"denoising_strength": 0.1}))
        np.testing.assert_array_equal(rendered(low), rendered(other))


def test_the_second_pass_heeds_the_options_of_noise_levels_which_img2img_does_not() -> None:
    def timesteps(earlier_calls: int, **changes: Any) -> list[list[float]]:
        family = ToyFamily()
        own = Params(width=64, height=64, steps=4, seed=1, subseed=2, sampler_name="Euler", **changes)
        render = replace(first(), params=own, latent=np.zeros((4, 8, 8), np.float32), latent_size=(8, 8))
        with Engine(family, slots=1) as engine:
            engine.submit(replace(render, earlier_calls=earlier_calls)).result(60)
        return family.timesteps

    changes = {"sd_noise_schedule": "Zero Terminal SNR"}
    assert timesteps(0, **changes) == timesteps(0) == timesteps(4)
    assert timesteps(4, **changes) != timesteps(4)


def told(**changes: Any) -> str:
    """The last line of a picture's text."""
    steps = recipe(job(**HIRES, **changes), Input(), 0, {}, SERVED)
    next(steps)
    steps.send([LATENT[:, :8]])
    (data,) = finished(steps, np.zeros((128, 128, 3), np.uint8)).values()
    assert Image.open(io.BytesIO(data)).size == (128, 128)
    return read_texts(data)["parameters"].split("\n")[-1]


@pytest.mark.parametrize("upscaler", ["Latent", "Lanczos"])
def test_what_is_interrupted_in_the_first_pass_is_its_picture(upscaler: str) -> None:
    family = ToyFamily()
    with Engine(family, slots=1) as engine:
        render = first(hr_upscaler=upscaler)
        renders = next(steps := hires_fix(render, 8, is_interrupted=lambda: True))
        if upscaler == "Latent":  # decoded, then
            renders = steps.send([engine.submit(each).result(60) for each in renders])
        with pytest.raises(StopIteration) as end:
            steps.send([engine.submit(each).result(60) for each in renders])
        low = replace(render, params=render.params.model_copy(update={"enable_hr": False}))
        np.testing.assert_array_equal(end.value.value[2], engine.submit(low).result(60))


def test_a_text_tells_of_both_passes_in_a1111s_order() -> None:
    line = told(
        sampler_name="DPM++ 2M",
        hr_sampler_name="Euler",
        hr_scheduler="Exponential",
        hr_prompt="a dog, asleep# not told",
        hr_second_pass_steps=3,
        hr_upscaler="Latent",
        extra_noise=0.1,
    )
    assert "Schedule type: Karras, CFG scale: 7.0, Seed: 5, Size: 64x64," in line
    assert (
        ', Denoising strength: 0.5, RNG: CPU, Hires sampler: Euler, Hires prompt: "a dog, asleep\\n", '
        "Hires schedule type: Exponential, Hires upscale: 2.0, Hires steps: 3, Hires upscaler: Latent, "
        "Extra noise: 0.1, Version"
    ) in line


def test_a_text_tells_of_what_acts_on_the_second_pass_alone() -> None:
    line = told(sampler_name="Euler", hr_scheduler="Karras", sigma_max=9)
    assert "Hires upscale: 2.0, Schedule max sigma: 9, Version" in line


@pytest.mark.parametrize("upscaler", ["Latent", "Lanczos"])
@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_a_text_tells_the_weight_of_masks_if_the_last_checkpoint_that_is_looked_at_sees_them(
    upscaler: str, weight: float
) -> None:
    def told_by(served: Served, **own: Any) -> str:
        steps = recipe(job(**HIRES, **{**changes, **own}), Input(), 0, {}, served)
        renders = next(steps)
        while True:
            try:
                renders = steps.send([answer_to(each) for each in renders])
            except StopIteration as end:
                return read_texts(next(iter(end.value.values())))["parameters"]

    changes = {"hr_upscaler": upscaler, "inpainting_mask_weight": weight, "hr_checkpoint_name": "other"}
    sees, other_sees = replace(SERVED, inpaints=True), replace(SERVED, other_inpaints=lambda _: True)
    entry = f"Conditional mask weight: {weight}"
    assert entry in told_by(other_sees)
    assert entry not in told_by(SERVED)
    # A1111 looks at the second one, or does nothing that would undo what it knows of the first
    assert (entry in told_by(sees)) is not (upscaler == "Latent" and weight == 1)
    assert entry in told_by(sees, hr_checkpoint_name=None)


def answer_to(render: Render) -> NDArray[Any]:
    height, width = render.latent_size
    if render.wants_latent:
        return np.zeros((4, height, width), np.float32)
    return np.zeros((8 * height, 8 * width, 3), np.uint8)


def test_a_text_tells_nothing_of_what_both_passes_share() -> None:
    line = told(hr_resize_x=128)
    assert ", Denoising strength: 0.5, RNG: CPU, Hires resize: 128x0, Version" in line
