"""Parameters: names, defaults, ranges and refusals."""

from typing import Any

import pytest
from pydantic import ValidationError

from img2img_shared.errors import Refused
from img2img_shared.own_params import check_own
from img2img_shared.param_reference import allowed
from img2img_shared.params import Params
from img2img_shared.refusals import read_params, refusal
from img2img_shared.samplers import SAMPLERS
from img2img_shared.seeds import SEED_MAX, SEED_MIN
from img2img_shared.settings import Settings


def refusal_of(**values: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        read_params(values)
    return caught.value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", 151),
        ("cfg_scale", -0.1),
        ("denoising_strength", 1.01),
        ("denoising_strength", float("nan")),
        ("width", 513),
        ("width", 56),
        ("height", 2056),
        ("resize_mode", 4),
        ("inpainting_fill", -1),
        ("inpainting_mask_invert", 2),
        ("mask_blur_x", -1),
        ("inpaint_full_res_padding", -1),
        ("seed", SEED_MIN - 1),
        ("seed", SEED_MAX + 1),
        ("subseed_strength", 2),
        ("noise_source", "gpu"),
        ("clip_skip", 0),
        ("images_per_input", 0),
        ("output_format", "bmp"),
        ("seed_mode", "random"),
        ("s_tmax", float("inf")),
    ],
)
def test_a_value_out_of_range_is_refused_by_field_value_and_range(name: str, value: object) -> None:
    refused = refusal_of(**{name: value})
    assert refused.field == name
    assert str(refused).startswith(f"{name} is {value!r}: give ")
    assert allowed(name) in str(refused)


def test_every_wrong_field_is_named_at_once() -> None:
    message = str(refusal_of(steps=0, width=513))
    assert "steps is 0: " in message
    assert "width is 513: " in message


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    message = str(refusal_of(denoise=0.5))
    assert message.startswith("denoise is 0.5: unknown parameter; did you mean")
    assert "denoising_strength" in message


def test_an_unknown_sampler_is_refused_with_the_list_of_names() -> None:
    message = str(refusal_of(sampler_name="Oiler"))
    assert all(name in message for name in SAMPLERS)


def test_an_unknown_schedule_is_refused_with_the_list_of_names() -> None:
    assert "Exponential" in str(refusal_of(scheduler="linear"))


def test_a_samplers_name_may_hold_the_schedule() -> None:
    params = read_params({"sampler_name": "DPM++ 2M Karras"})
    assert (params.sampler_name, params.scheduler) == ("DPM++ 2M", "Karras")


def test_an_automatic_that_is_named_wins_over_it() -> None:
    params = read_params({"sampler_name": "LMS Karras", "scheduler": "Automatic"})
    assert (params.sampler_name, params.scheduler) == ("LMS", "Automatic")


@pytest.mark.parametrize(
    ("values", "takers"),
    [
        ({"sampler_name": "Euler a", "s_noise": 1.1}, "DPM fast"),
        ({"sampler_name": "DDIM", "scheduler": "Karras", "rho": 5}, "Karras or Polyexponential"),
        ({"scheduler": "Automatic", "sigma_max": 10}, "Uniform, Karras"),
        ({"scheduler": "Karras", "beta_dist_alpha": 0.5}, "Beta"),
        ({"uni_pc_order": 2}, "UniPC"),
        ({"no_dpmpp_sde_batch_determinism": True}, "DPM++ SDE"),
        ({"sgm_noise_multiplier": True}, "txt2img"),
        ({"mask_blend_power": 2}, "soft_inpainting"),
        ({"txt2img": True, "soft_inpainting": True}, "txt2img"),
    ],
)
def test_what_has_no_effect_is_refused_with_what_has(values: dict[str, Any], takers: str) -> None:
    refused = refusal_of(**values)
    assert refused.field in values
    assert takers in refused.reason


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_option_of_a_sampler_is_a_parameter_it_takes(sampler: str) -> None:
    for name in SAMPLERS[sampler].options:
        default = Params.model_fields[name].default
        value = not default if isinstance(default, bool) else {"uni_pc_variant": "bh2"}.get(name, 2)
        if name == "uni_pc_skip_type":
            value = "logSNR"
        assert getattr(read_params({"sampler_name": sampler, name: value}), name) == value


@pytest.mark.parametrize(
    "values",
    [
        {"sampler_name": "UniPC", "steps": 5, "denoising_strength": 0.5},
        {"sampler_name": "UniPC", "steps": 2, "denoising_strength": 1, "uni_pc_order": 2},
        {"sampler_name": "UniPC", "steps": 2, "txt2img": True},
        {"sampler_name": "UniPC", "steps": 20, "denoising_strength": 0.01, "uni_pc_order": 1},
        {"sampler_name": "UniPC", "steps": 20, "denoising_strength": 0, "uni_pc_order": 1},
        {"sampler_name": "DDIM", "steps": 150, "denoising_strength": 0.1, "fix_steps": True},
        {"sampler_name": "DPM fast", "steps": 20, "denoising_strength": 0.01},
        {"sampler_name": "DPM adaptive", "steps": 1},
    ],
)
def test_steps_that_a_sampler_cannot_do_are_refused_before_anything_is_queued(values: dict[str, Any]) -> None:
    assert refusal_of(**values).field in {"uni_pc_order", "steps, denoising_strength, fix_steps"}


@pytest.mark.parametrize(
    "values",
    [
        {"sampler_name": "UniPC", "steps": 6, "denoising_strength": 0.5},
        {"sampler_name": "UniPC", "steps": 3, "txt2img": True},
        {"sampler_name": "DPM fast", "steps": 20, "denoising_strength": 0.01, "eta": 0},
        {"sampler_name": "DPM fast", "steps": 1, "txt2img": True},
    ],
)
def test_steps_that_it_can_do_are_let_through(values: dict[str, Any]) -> None:
    assert read_params(values).steps == values["steps"]


def test_brownian_noise_knows_no_seed_below_0() -> None:
    assert refusal_of(sampler_name="DPM++ SDE", seed=-5).field == "seed"
    assert read_params({"sampler_name": "Euler a", "seed": -5}).seed == -5


def test_an_option_that_the_sampler_lacks_is_refused_not_ignored() -> None:
    refused = refusal_of(sampler_name="Euler", eta=0.5)
    assert refused.field == "eta"
    assert "Euler a" in str(refused)


def test_an_option_at_its_neutral_value_is_let_through() -> None:
    assert read_params({"sampler_name": "DPM++ 2M", "eta": 0.0, "s_churn": 0.0, "s_noise": 1.0}).eta == 0.0


def test_a_control_unit_has_a_network_unless_its_picture_is_all_that_is_wanted() -> None:
    unit = {"module": "canny"}
    assert refusal_of(control=[unit]).field == "control.0.model"
    assert read_params({"control": [unit], "control_only": True}).control[0].model == "None"
    assert refusal_of(control_only=True).field == "control_only"
    assert "canny" in str(refusal_of(control=[{"model": "x", "module": "canny", "threshold_a": 300}]))


def test_mask_blur_sets_both_directions() -> None:
    params = read_params({"mask_blur": 9, "mask_blur_x": 1})
    assert (params.mask_blur_x, params.mask_blur_y) == (9, 9)


def test_one_side_alone_of_the_seed_resize_is_refused() -> None:
    assert "seed_resize_from_h" in refusal_of(seed_resize_from_w=512).field


@pytest.mark.parametrize("size", [(7, 512), (512, 15)])
def test_a_seed_resize_that_leaves_no_noise_to_turn_is_refused(size: tuple[int, int]) -> None:
    refused = refusal_of(seed_resize_from_w=size[0], seed_resize_from_h=size[1])
    assert refused.value == size
    assert "16" in refused.reason
    assert read_params({"seed_resize_from_w": 16, "seed_resize_from_h": 16}).seed_resize_from_h == 16


def test_a_background_is_a_colour() -> None:
    assert read_params({"background": "#FF8000"}).background == "#ff8000"
    assert refusal_of(background="orange").field == "background"


def test_the_defaults_are_a1111s() -> None:
    defaults = Params()
    assert (defaults.steps, defaults.cfg_scale, defaults.denoising_strength) == (20, 7.0, 0.75)
    assert (defaults.mask_blur_x, defaults.inpainting_fill, defaults.inpaint_full_res) == (4, 0, True)


def test_a_setting_is_refused_by_the_name_of_its_variable() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(tenant="a b")
    refused = refusal(caught.value, "IMG2IMG_")
    assert refused.field == "IMG2IMG_TENANT"
    assert refused.reason.startswith("give 1 to 64 letters, digits")


def test_sides_that_are_no_multiples_of_8_are_taken_only_where_that_is_said() -> None:
    assert Params(width=100, height=70, odd_size=True).width == 100
    for name in ("width", "height"):
        with pytest.raises(Refused, match=f"{name} is 100: give a multiple of 8 from 64 to 2048"):
            read_params({name: 100})
    with pytest.raises(Refused, match="width is 63: "):
        read_params({"width": 63, "odd_size": True})


def test_a_png_has_no_quality() -> None:
    assert Params(quality=80, output_format="webp").quality == 80
    with pytest.raises(Refused, match="quality"):
        Params(quality=80)


def test_as_many_prompts_may_be_joined_by_and_as_a_model_call_can_bear() -> None:
    assert read_params({"prompt": " AND ".join(["a"] * 32)}).prompt
    with pytest.raises(Refused, match=r"33 prompts joined by AND: join at most 32"):
        read_params({"prompt": " AND ".join(["a"] * 33)})
    with pytest.raises(Refused, match="3300 prompts joined by AND"):
        check_own(Params(), {"prompt": "a AND " * 3299 + "a"})
    assert read_params({"prompt": "a BAND AND ANDY " * 31})
