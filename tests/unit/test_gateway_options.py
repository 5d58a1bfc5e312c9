"""A1111's options: all are known; each is a parameter, keeps its default, or means nothing to a farm."""

from typing import Any

import pytest

from img2img_gateway.sdapi.option_table import (
    changes_pictures,
    check_option,
    defaults,
    parameter,
    parameters_of,
)
from img2img_gateway.sdapi.request import Img2ImgRequest, Txt2ImgRequest
from img2img_gateway.sdapi.translate import read_request
from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_shared.refusals import read_params
from img2img_shared.samplers import SAMPLERS


def test_every_option_of_a1111_and_the_one_of_its_controlnet_are_known() -> None:
    assert len(defaults()) == 317 + 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_option_at_its_default_changes_nothing(sampler: str) -> None:
    for name, default in defaults().items():
        check_option(name, default)
    found = parameters_of(defaults(), sampler, txt2img=False)
    neutral = Params(sampler_name=sampler)
    # the eta that A1111's settings hold is the one that its samplers have by themselves
    assert "eta" not in found
    held = defaults()["eta_ddim" if SAMPLERS[sampler].timesteps else "eta_ancestral"]
    assert held == SAMPLERS[sampler].eta
    given = {name: value for name, value in found.items() if value is not None}
    assert read_params({**given, "sampler_name": sampler}) == neutral


@pytest.mark.parametrize(
    ("name", "value", "field", "set_to"),
    [
        ("CLIP_stop_at_last_layers", 2.0, "clip_skip", 2),
        ("randn_source", "GPU", "noise_source", "nv"),
        ("randn_source", "NV", "noise_source", "nv"),
        ("samples_format", "jpg", "output_format", "jpeg"),
        ("img2img_background_color", "#204060", "background", "#204060"),
        ("initial_noise_multiplier", 0.5, "initial_noise_multiplier", 0.5),
        ("s_tmax", 0, "s_tmax", None),
        ("s_churn", 4, "s_churn", 4),
        ("show_progress_type", "TAESD", "show_progress_type", "TAESD"),
        ("show_progress_type", "Full", "show_progress_type", "Approx NN"),
        ("sd_vae", "soft.safetensors", "vae", "soft.safetensors"),
        ("token_merging_ratio_img2img", 0.4, "token_merging_ratio", 0.4),
    ],
)
def test_an_option_sets_its_parameter(name: str, value: Any, field: str, set_to: Any) -> None:
    check_option(name, value)
    assert getattr(read_params(parameters_of({name: value}, "Euler", txt2img=False)), field) == set_to


def test_an_option_of_hires_fix_may_be_set() -> None:
    check_option("token_merging_ratio_hr", 0.2)
    with pytest.raises(Refused, match=r"a number from 0 to 0\.9"):
        check_option("token_merging_ratio_hr", 1)


def test_what_is_of_a_hires_fix_means_nothing_to_img2img() -> None:
    options = {"hires_fix_use_firstpass_conds": True, "token_merging_ratio_hr": 0.5}
    given = [read_request(Img2ImgRequest(), ("", ""), each, {}) for each in ({}, options)]
    assert given[0] == given[1]


def test_a_hires_fix_may_be_asked_for_by_its_last_size_as_in_old_a1111() -> None:
    options = {"use_old_hires_fix_width_height": True}

    def sizes(**fields: Any) -> tuple[int, ...]:
        request = Txt2ImgRequest(width=1024, height=768, denoising_strength=0.5, **fields)
        params = read_request(request, ("", ""), options, {})
        return params.width, params.height, params.hr_resize_x, params.hr_resize_y

    assert sizes(enable_hr=True, hr_scale=3) == (640, 448, 1024, 768)
    assert sizes() == (1024, 768, 0, 0)
    check_option("use_old_hires_fix_width_height", True)
    with pytest.raises(Refused, match="width"):
        read_request(Txt2ImgRequest(width=0, enable_hr=True, denoising_strength=0.5), ("", ""), options, {})


def test_img2img_has_a_ratio_of_its_own_where_that_is_not_0() -> None:
    def ratio(txt2img: bool, **options: float) -> float | None:
        return parameters_of(options, "Euler", txt2img=txt2img).get("token_merging_ratio")

    both = {"token_merging_ratio": 0.3, "token_merging_ratio_img2img": 0.5}
    assert (ratio(False, **both), ratio(True, **both)) == (0.5, 0.3)
    assert ratio(False, **both | {"token_merging_ratio_img2img": 0.0}) == 0.3
    assert ratio(True, token_merging_ratio_img2img=0.5) is None


def test_a_samplers_own_option_means_nothing_to_another() -> None:
    options = {"eta_ddim": 0.3, "eta_ancestral": 0.7, "s_churn": 4, "uni_pc_order": 2, "rho": 5}

    def read(sampler: str) -> dict[str, Any]:
        request = Img2ImgRequest(sampler_name=sampler, steps=20, s_noise=1.1)
        params = read_request(request, ("", ""), options, {})
        return params.model_dump(exclude_defaults=True, exclude={"sampler_name", "scheduler"})

    assert read("Euler a") == {"eta": 0.7}
    assert parameters_of({"eta_ancestral": 1.0, "eta_ddim": 0.0}, "Euler a", txt2img=True) == {}
    assert read("DDIM") == {"eta": 0.3}
    assert read("LMS") == {}
    assert read("LMS Karras") == {"rho": 5}
    assert read("UniPC") == {"uni_pc_order": 2}
    assert read("Heun") == {"s_churn": 4, "s_noise": 1.1, "add_churn_to_info": "s_churn"}


def test_the_settings_churn_wins_over_a_requests_and_is_told() -> None:
    def read(**options: float) -> tuple[float, str]:
        params = read_request(Img2ImgRequest(s_noise=1.1), ("", ""), options, {})
        return params.s_noise, params.add_churn_to_info

    assert read(s_noise=1.05) == (1.05, "s_noise")
    assert read(s_churn=2, s_tmax=9) == (1.1, "s_churn, s_tmax")
    assert read(s_noise=1.0) == read() == (1.1, "")
    assert read_request(Img2ImgRequest(), ("", ""), {"s_tmax": 0}, {}).add_churn_to_info == ""


@pytest.mark.parametrize("name", [name for name in defaults() if parameter(name)])
def test_an_option_that_is_a_parameter_is_refused_out_of_its_range(name: str) -> None:
    with pytest.raises(Refused) as refusal:
        check_option(name, {"x": 1})
    assert refusal.value.field == name


def test_an_option_that_changes_pictures_and_is_no_parameter_keeps_its_default() -> None:
    left = [name for name in defaults() if changes_pictures(name) and not parameter(name)]
    for name in set(left) - {"sd_model_checkpoint", "sd_hypernetwork", "sd_lora"}:
        with pytest.raises(Refused) as refusal:
            check_option(name, "another")
        assert refusal.value.field == name


@pytest.mark.parametrize("value", [float("nan"), [1, float("inf")], "x" * 10_000, ["x"] * 10_000])
@pytest.mark.parametrize("name", ["font", "rho", "sd_model_checkpoint"])
def test_what_is_endless_or_no_number_is_refused(name: str, value: Any) -> None:
    with pytest.raises(Refused) as refusal:
        check_option(name, value)
    assert refusal.value.field == name


def test_a_null_means_the_default_but_turns_a_switch_off_as_in_a1111() -> None:
    switches = ("inpaint_full_res", "mask_round", "override_settings_restore_afterwards")
    nulls = dict.fromkeys([*switches, "steps", "cfg_scale"])
    body, default = Img2ImgRequest.model_validate(nulls), Img2ImgRequest()
    assert [getattr(body, name) for name in switches] == [False] * 3
    assert (body.steps, body.cfg_scale) == (default.steps, default.cfg_scale)
    assert body.nulls == nulls.keys()
    assert Txt2ImgRequest.model_validate(nulls).unknown == []
