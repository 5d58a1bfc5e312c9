"""Parameters that an input has of its own."""

from typing import Any

import pytest

from img2img_shared.errors import Refused, WireError
from img2img_shared.job import Input, Job
from img2img_shared.own_params import OF_THE_JOB, draw_own_seeds, with_own
from img2img_shared.own_params import check_own as checked
from img2img_shared.params import Params


def check_own(params: Params, own: dict[str, Any]) -> dict[str, Any]:
    held, whole = checked(params, own)
    assert with_own(params, held) == whole
    return held


PARAMS = Params(
    prompt="x", steps=30, sampler_name="DPM++ 2M Karras", mask_blur_x=9, mask_blur_y=9, seed=10, subseed=20
)


def job(**params: Any) -> Job:
    return Job(id="0" * 8, model="m", params=PARAMS.model_copy(update=params), n_inputs=4)


@pytest.mark.parametrize(
    ("own", "held"),
    [
        ({}, {}),
        ({"steps": None}, {}),
        ({"steps": 30}, {"steps": 30}),
        ({"prompt": ""}, {"prompt": ""}),
        ({"steps": "7", "cfg_scale": "1.5"}, {"steps": 7, "cfg_scale": 1.5}),
        ({"sampler_name": "Euler"}, {"sampler_name": "Euler"}),
        (
            {"sampler_name": "DPM++ 2M Exponential"},
            {"sampler_name": "DPM++ 2M", "scheduler": "Exponential"},
        ),
        ({"mask_blur": 2}, {"mask_blur_x": 2, "mask_blur_y": 2}),
        ({"mask_blur": 4}, {"mask_blur_x": 4, "mask_blur_y": 4}),
    ],
)
def test_what_an_input_says_is_held_by_full_names_and_the_rest_is_the_jobs(
    own: dict[str, Any], held: dict[str, Any]
) -> None:
    assert check_own(PARAMS, own) == held
    expected = PARAMS.model_copy(update=held)
    assert with_own(PARAMS, check_own(PARAMS, own)) == expected


def test_an_inputs_own_size_is_said_in_one_way_whatever_way_the_jobs_is() -> None:
    fitted, sized = Params(fit=0), Params(width=128, height=256)
    assert check_own(fitted, {"width": 512, "height": "64"}) == {"width": 512, "height": 64, "fit": None}
    assert check_own(sized, {"width": 64}) == {"width": 64}
    assert with_own(sized, check_own(sized, {"fit": 768})).fit == 768
    assert with_own(fitted, check_own(fitted, {"fit": 768})).fit == 768
    with pytest.raises(Refused, match="width and height, or fit alone"):
        check_own(fitted, {"width": 512})
    with pytest.raises(Refused, match="fit is 768"):
        check_own(fitted, {"width": 512, "height": 64, "fit": 768})


def test_every_parameter_may_be_an_inputs_own_but_those_that_shape_the_job() -> None:
    for name in Params.model_fields.keys() - OF_THE_JOB.keys():
        default = getattr(Params(), name)
        wanted = {} if default is None else {name: list(default) if isinstance(default, tuple) else default}
        assert check_own(Params(), {name: default}) == wanted, name
    for name, why in OF_THE_JOB.items():
        with pytest.raises(Refused, match=why):
            check_own(PARAMS, {name: getattr(PARAMS, name)})


def test_every_finding_is_told_and_what_only_fails_beside_the_jobs_too() -> None:
    with pytest.raises(Refused, match=r"^steps is 0: .*colour is 1: ") as caught:
        check_own(PARAMS, {"steps": 0, "colour": 1})
    assert [each.field for each in caught.value.others] == ["colour"]
    with pytest.raises(Refused, match="s_churn"):
        check_own(PARAMS, {"s_churn": 1})


def test_seeds_that_are_to_be_drawn_are_drawn_and_others_kept() -> None:
    drawn = draw_own_seeds(Params(), {"seed": -1, "subseed": 3, "steps": -1})
    assert drawn["seed"] >= 0
    assert (drawn["subseed"], drawn["steps"]) == (3, -1)
    assert "control_subseed" not in drawn, "nothing to control"


def test_preprocessors_are_told_whether_an_inputs_subseed_was_given() -> None:
    held = Params.model_validate({"control": [{"module": "shuffle", "model": "edges"}]})
    assert draw_own_seeds(held, {"subseed": 3})["control_subseed"] == 3
    assert draw_own_seeds(held, {"subseed": -1})["control_subseed"] == -1
    assert draw_own_seeds(held, {"subseed": 3, "control_subseed": 4})["control_subseed"] == 4
    assert "control_subseed" not in draw_own_seeds(held, {"seed": 3}), "the job's"


@pytest.mark.parametrize(
    ("own", "params", "seeds"),
    [
        ({}, {}, (13, 23)),
        ({"seed": 100}, {}, (101, 21)),
        ({"subseed": 200}, {}, (13, 201)),
        ({"seed": 100, "subseed": 200}, {}, (101, 201)),
        ({"seed": 100, "subseed_strength": 0.5}, {}, (100, 21)),
        ({"seed_mode": "same"}, {}, (10, 20)),
        ({"seed_mode": "increment"}, {"seed_mode": "same"}, (13, 23)),
    ],
)
def test_an_inputs_own_seeds_count_over_its_own_outputs(
    own: dict[str, Any], params: dict[str, Any], seeds: tuple[int, int]
) -> None:
    assert job(images_per_input=2, **params).seeds(3, Input(params=own)) == seeds


def test_a_parameter_of_a_newer_version_is_left_to_a_newer_worker() -> None:
    with pytest.raises(WireError, match=r"\(no_such unknown here\); update it"):
        with_own(PARAMS, {"no_such": 1})
