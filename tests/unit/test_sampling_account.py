"""What a picture's text tells of prompts and sampling: by A1111's names, where it tells it, in its order."""

from typing import Any

import numpy as np
import pytest

from img2img_shared.params import Params
from img2img_worker.models.prompts import conditioning
from img2img_worker.sampling.account import infotext_pairs
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.plan import compile_plan
from img2img_worker.sampling.plan_key import PlanKey

CHURN = "s_churn, s_tmin, s_tmax, s_noise"
LEVELS = NoiseLevels.from_alphas_cumprod(np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2))


def told_of(**values: Any) -> dict[str, object]:
    params = Params(**values)
    return infotext_pairs(params, compile_plan(PlanKey.of(params), LEVELS), LEVELS)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {}),
        (
            {"initial_noise_multiplier": 1.05, "extra_noise": 0.1},
            {"Noise multiplier": 1.05, "Extra noise": 0.1},
        ),
        ({"txt2img": True, "initial_noise_multiplier": 1.05, "extra_noise": 0.1}, {}),
        ({"sampler_name": "Euler a", "eta": 0.5}, {"Eta": 0.5}),
        ({"sampler_name": "Euler a", "eta": 1.0}, {}),
        ({"sampler_name": "DDIM CFG++", "eta": 0.5}, {"Eta DDIM": 0.5}),
        ({"sampler_name": "Euler", "eta": 0.0}, {}),
        ({"s_churn": 2, "s_tmin": 0.5, "s_tmax": 9, "s_noise": 1.01}, {}),
        (
            {"add_churn_to_info": CHURN, "s_churn": 2, "s_tmin": 0.5, "s_tmax": 9, "s_noise": 1.01},
            {"Sigma churn": 2.0, "Sigma tmin": 0.5, "Sigma tmax": 9.0, "Sigma noise": 1.01},
        ),
        ({"add_churn_to_info": "s_churn", "s_churn": 2, "s_noise": 0.9}, {"Sigma churn": 2.0}),
        ({"add_churn_to_info": CHURN}, {}),
        ({"sd_noise_schedule": "Zero Terminal SNR"}, {"Noise Schedule": "Zero Terminal SNR"}),
        ({"use_downcasted_alpha_bar": True}, {"Downcast alphas_cumprod": True}),
        ({"always_discard_next_to_last_sigma": True}, {"Discard penultimate sigma": True}),
        ({"sampler_name": "DPM2", "always_discard_next_to_last_sigma": True}, {}),
        (
            {"sampler_name": "PLMS", "always_discard_next_to_last_sigma": True},
            {"Discard penultimate sigma": True},
        ),
        (
            {"scheduler": "Karras", "sigma_min": 0.1, "sigma_max": 9.5, "rho": 5},
            {"Schedule min sigma": 0.1, "Schedule max sigma": 9.5, "Schedule rho": 5.0},
        ),
        ({"scheduler": "Karras", "rho": 7}, {}),
        ({"scheduler": "Simple", "sigma_max": 9.5}, {"Schedule max sigma": 9.5}),
        ({"scheduler": "Karras", "use_old_karras_scheduler_sigmas": True}, {}),
        ({"scheduler": "Beta"}, {"Beta schedule alpha": 0.6, "Beta schedule beta": 0.6}),
        ({"sampler_name": "DDIM", "scheduler": "Beta"}, {}),
        ({"txt2img": True, "sgm_noise_multiplier": True}, {"SGM noise multiplier": True}),
        ({"skip_early_cond": 0.2}, {"Skip Early CFG": 0.2}),
        ({"s_min_uncond": 3}, {"NGMS": 3.0}),
        ({"s_min_uncond": 3, "s_min_uncond_all": True}, {"NGMS": 3.0, "NGMS all steps": True}),
        ({"s_min_uncond": 0.01}, {}),  # below every sigma: no call was without its negative row
        ({"s_min_uncond": 30, "steps": 3, "denoising_strength": 0.1}, {}),  # one call, and every second is
        ({"sampler_name": "DDIM", "s_min_uncond": 3}, {}),  # its timesteps are higher than that
    ],
)
def test_what_was_other_than_usual_is_told(values: dict[str, Any], expected: dict[str, object]) -> None:
    assert told_of(**values) == expected


def test_numbers_are_told_as_they_were_written() -> None:
    whole = {"scheduler": "Karras", "sigma_min": 1, "sigma_max": 9, "rho": 5, "extra_noise": 1, "eta": 0}
    sent = Params.model_validate_json(Params(sampler_name="Euler a", **whole).model_dump_json())
    told_as = infotext_pairs(sent, compile_plan(PlanKey.of(sent), LEVELS), LEVELS)
    assert list(map(str, told_as.values())) == ["1", "9", "5", "1", "0"]
    assert str(told_of(scheduler="Beta", beta_dist_alpha=1, beta_dist_beta=1.0)["Beta schedule alpha"]) == "1"


def test_what_is_told_stands_in_a1111s_order() -> None:
    values = {
        "scheduler": "Beta",
        "sampler_name": "Euler a",
        "eta": 0.5,
        "extra_noise": 0.1,
        "initial_noise_multiplier": 0.9,
        "sigma_max": 9.0,
        "always_discard_next_to_last_sigma": True,
        "skip_early_cond": 0.2,
        "s_min_uncond": 5,
    }
    assert list(told_of(**values)) == [
        "Noise multiplier",
        "Discard penultimate sigma",
        "Schedule max sigma",
        "Beta schedule alpha",
        "Beta schedule beta",
        "Extra noise",
        "Eta",
        "Skip Early CFG",
        "NGMS",
    ]


@pytest.mark.parametrize(
    ("prompt", "values", "expected"),
    [
        ("a (cat:1.2)", {}, {}),
        ("a (cat:1.2)", {"emphasis": "No norm"}, {"Emphasis": "No norm"}),
        ("a cat", {"emphasis": "No norm"}, {}),
        ("[cat:dog:0.5]", {"emphasis": "Ignore"}, {}),  # no bracket is left in what is encoded
        ("a (cat)", {"emphasis": "None", "use_old_emphasis_implementation": True}, {}),
        ("[cat:dog:0.5]", {"use_old_scheduling": True}, {}),
        ("[cat:dog:1.5]", {"use_old_scheduling": True}, {"Old prompt editing timelines": True}),
    ],
)
def test_how_prompts_were_read_is_told(
    prompt: str, values: dict[str, Any], expected: dict[str, object]
) -> None:
    assert conditioning.infotext_pairs(prompt, "", Params(**values)) == expected
    assert conditioning.infotext_pairs("", prompt, Params(**values)) == expected
