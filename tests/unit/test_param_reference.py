"""Every parameter is declared with all that help texts, OpenAPI and the table of parameters tell."""

from typing import Any

import pytest

from img2img_shared.param_fields import GROUPS, OUTPAINTING_NOISE_FIELDS
from img2img_shared.param_groups.extras_params import ExtrasParams
from img2img_shared.param_groups.face_params import FaceParams
from img2img_shared.param_groups.hires_params import HiresParams
from img2img_shared.param_groups.loopback_params import LoopbackParams
from img2img_shared.param_groups.outpainting_params import OutpaintingParams
from img2img_shared.param_groups.sd_upscale_params import SdUpscaleParams
from img2img_shared.param_groups.soft_inpainting_params import SoftInpaintingParams
from img2img_shared.param_reference import allowed, description, schema_of, span
from img2img_shared.params import WRITTEN, Params
from img2img_shared.samplers import REFINER_OPTIONS
from tools.parameter_table import FILE, table


def test_each_parameter_is_in_one_group() -> None:
    grouped = [name for group in GROUPS.values() for name in group.model_fields]
    assert sorted(grouped) == sorted(Params.model_fields)


@pytest.mark.parametrize("name", Params.model_fields)
def test_each_parameter_has_a_sentence_that_says_what_it_does(name: str) -> None:
    text = description(name)
    assert text.endswith(".")
    assert 20 <= len(text) <= 260


@pytest.mark.parametrize("name", Params.model_fields)
def test_each_parameter_has_a_range_its_choices_or_a_length(name: str) -> None:
    schema = schema_of(name)
    bounds = {"enum", "maxLength", "minimum", "maxItems"}
    assert schema["type"] == "boolean" or bounds & schema.keys()
    assert allowed(name)


@pytest.mark.parametrize("name", Params.model_fields)
def test_each_parameter_has_an_example_that_is_allowed_and_not_its_default(name: str) -> None:
    example = (Params.model_fields[name].examples or ["there is none"])[0]
    together: dict[str, Any] = {}
    if name in HiresParams.model_fields:
        together = {"txt2img": True, "enable_hr": True}
    elif name in ExtrasParams.model_fields:
        together = {"extras": True, "upscaling_resize_w": 64, "upscaling_resize_h": 64}
    elif name in FaceParams.model_fields:
        together = {"restore_faces": True}
    elif name in SoftInpaintingParams.model_fields:
        together = {"soft_inpainting": True}
    elif name in OutpaintingParams.model_fields:
        method = "noise" if name in OUTPAINTING_NOISE_FIELDS else "tiles"
        together = {"outpaint": "left", "outpaint_method": method}
    elif name in SdUpscaleParams.model_fields:
        together = {"sd_upscale": True}
    elif name in LoopbackParams.model_fields:
        together = {"loopback": True}
    elif name in REFINER_OPTIONS:
        together = {"refiner_checkpoint": "sd_xl_refiner"}
    elif name == "control_only":
        together = {"control": [{"module": "canny"}]}
    params = Params.model_validate(together | {name: example}, context=WRITTEN)
    assert getattr(params, name) != Params.model_fields[name].default


def test_what_is_allowed_is_told_in_words_and_in_short() -> None:
    assert (allowed("steps"), span("steps")) == ("a whole number from 1 to 150", "1 to 150")
    assert allowed("width") == "a multiple of 8 from 64 to 2048"
    assert allowed("eta") == "a number from 0 to 10"
    assert allowed("inpainting_fill") == "one of 0 (fill), 1 (original), 2 (latent noise), 3 (latent nothing)"
    assert span("output_format") == "png, jpeg, webp"
    assert (allowed("mask_round"), span("mask_round")) == ("true or false", "")
    assert allowed("scheduler") == "text of at most 100 characters"
    assert span("seed") == ""


def test_the_table_of_parameters_is_what_is_declared() -> None:
    assert FILE.read_text() == table(), "it is old: python -m tools.parameter_table"
