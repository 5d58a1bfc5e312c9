"""What a picture's text tells is what a job takes to make it again."""

from typing import Any

import pytest

from img2img_gateway.params_of_infotext import read_infotext
from img2img_shared.control import ControlUnit
from img2img_shared.params import Params
from img2img_worker.pictures.infotext import infotext


def text_of(params: Params, **more: Any) -> str:
    return infotext(
        params,
        prompt=params.prompt,
        negative_prompt=params.negative_prompt,
        seed=params.seed,
        subseed=params.subseed,
        model="sd15",
        **more,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "a cat,\nof two lines: here", "negative_prompt": "fog", "steps": 9, "cfg_scale": 4.5},
        {"sampler_name": "DPM++ 2M", "scheduler": "Karras", "width": 640, "height": 384, "clip_skip": 2},
        {"subseed": 9, "subseed_strength": 0.25, "seed_resize_from_w": 256, "seed_resize_from_h": 320},
        {"denoising_strength": 0.4, "noise_source": "nv", "tiling": True, "token_merging_ratio": 0.5},
        {"txt2img": True},
        {"restore_faces": True, "face_restoration_model": "GFPGAN"},
        {"mask_blur": 8, "inpainting_fill": 2, "inpaint_full_res_padding": 16, "inpainting_mask_invert": 1},
        {"inpaint_full_res": False, "soft_inpainting": True, "mask_blend_power": 2},
        {"distilled_cfg_scale": 3.0, "image_cfg_scale": 1.2},
        {"width": 333, "height": 512, "odd_size": True},
        {"control": (ControlUnit(module="canny", model="canny-sd15", weight=0.5, threshold_a=50),)},
    ],
)
def test_what_we_write_is_read(changes: dict[str, Any]) -> None:
    params = Params(**{"seed": 7, **changes})
    found = read_infotext(text_of(params, has_mask=True, masked=True))
    told, wanted = dict(found.params), dict(params)
    assert {name: told[name] for name in params.model_fields_set} == {
        name: wanted[name] for name in params.model_fields_set
    }
    assert found.model == "sd15"
    assert not found.refused
    assert not found.left_out


def test_a_hires_fix_is_read() -> None:
    found = read_infotext(
        "a cat\nSteps: 20, Sampler: Euler, Seed: 7, Size: 512x512, Denoising strength: 0.5, "
        "Hires upscale: 1.5, Hires steps: 8, Hires upscaler: Latent (nearest), Hires sampler: Heun"
    )
    told = found.params
    assert (told.txt2img, told.enable_hr, told.hr_scale, told.hr_second_pass_steps) == (True, True, 1.5, 8)
    assert (told.hr_upscaler, told.hr_sampler_name) == ("Latent (nearest)", "Heun")


def test_what_no_job_may_have_is_told_and_the_rest_is_kept() -> None:
    found = read_infotext(
        "a cat\nSteps: 900, Sampler: Nobody's, CFG scale: much, Seed: 7, Size: 512x512, Clip skip: 2"
    )
    assert {each.field for each in found.refused} >= {"steps", "sampler_name", "cfg_scale"}
    assert found.params.seed == 7
    assert found.params.prompt == "a cat"


def test_what_nobody_here_knows_is_left_out_by_name() -> None:
    found = read_infotext(
        "a cat\nSteps: 20, Sampler: Euler, Wildcard mode: on, Model hash: 01ab, Version: v1.10.1"
    )
    assert found.left_out == {"Wildcard mode": "on"}


@pytest.mark.parametrize("text", ["", "no infotext at all", "Steps: x, Sampler: y, Size: 0x0", ":::,,,"])
def test_other_texts_do_no_harm(text: str) -> None:
    assert isinstance(read_infotext(text).params, Params)
