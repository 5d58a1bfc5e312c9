"""ControlNet's units as A1111's clients send them, and the lists that they fill their menus from."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from img2img_gateway.sdapi.control_lists import _of_kind, module_list
from img2img_gateway.sdapi.control_units import SentUnits, control_units, forget_pictures
from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.request import Img2ImgRequest
from img2img_shared.errors import Refused

LISTS = json.loads((Path(__file__).parent / "a1111" / "controlnet_lists.json").read_text())
UNIT = {"enabled": True, "model": "some network"}


def sent(*units: Any, name: str = "controlnet", strict: bool = False) -> tuple[SentUnits, list[str]]:
    """What units mean, and what is warned of."""
    lenient = Leniency(strict=strict)
    request = Img2ImgRequest(alwayson_scripts={name: {"args": list(units)}})
    return control_units(request, lenient), lenient.warnings


def refused(*units: Any) -> str:
    with pytest.raises(Refused) as caught:
        sent(*units)
    return str(caught.value)


def test_a_unit_is_read_as_it_was_sent_and_its_pictures_by_their_roles() -> None:
    unit = {**UNIT, "image": "aaaa", "mask": "bbbb", "effective_region_mask": "cccc", "weight": 0.5}
    found, warnings = sent({}, {"enabled": False, "module": "nonsense"}, unit, name="ControlNet")
    (read,) = found.units
    assert (read.model, read.weight, read.save_detected_map) == ("some network", 0.5, True)
    assert found.pictures == {"control/0": "aaaa", "control/0/mask": "bbbb", "control/0/region": "cccc"}
    assert warnings == []


@pytest.mark.parametrize("unit", [{"model": "some network"}, {"module": "canny", "image": "aaaa"}])
def test_a_unit_that_nobody_switched_on_is_warned_of(unit: dict[str, str]) -> None:
    found, warnings = sent(unit, {"module": "none", "model": "None"}, {**unit, "enabled": False})
    assert found.units == ()
    (warning,) = warnings
    assert warning.startswith("alwayson_scripts.controlnet.args[0]: it is off")
    with pytest.raises(Refused, match="enabled"):
        sent(unit, strict=True)


@pytest.mark.parametrize(
    "image",
    [
        {"image": "aaaa", "mask": "bbbb"},
        ["aaaa", "bbbb"],
        [{"image": "aaaa", "mask": "bbbb"}],
    ],
)
def test_a_picture_and_its_mask_may_be_sent_together(image: Any) -> None:
    found, _ = sent({**UNIT, "image": image})
    assert found.pictures == {"control/0": "aaaa", "control/0/mask": "bbbb"}


def test_several_pictures_are_an_adapters_own_and_are_units_of_others_where_they_are_merged() -> None:
    several = [{"image": "aaaa"}, {"image": "bbbb", "mask": "cccc"}, {"image": "dddd", "mask": None}]
    own, _ = sent({**UNIT, "image": several, "module": "ip-adapter-auto", "input_mode": "merge"})
    assert own.pictures == {
        "control/0": "aaaa",
        "control/0/1": "bbbb",
        "control/0/1/mask": "cccc",
        "control/0/2": "dddd",
    }
    merged, _ = sent({**UNIT, "image": several, "weight": 0.9, "input_mode": "merge"}, UNIT)
    assert [round(each.weight, 3) for each in merged.units] == [0.3, 0.3, 0.3, 1.0]
    assert merged.pictures == {
        "control/0": "aaaa",
        "control/1": "bbbb",
        "control/1/mask": "cccc",
        "control/2": "dddd",
    }
    assert "input_mode merge" in refused({**UNIT, "image": several})
    assert "--control canny=DIR" in refused({**UNIT, "input_mode": "batch", "batch_images": "/frames"})
    assert "at most 10" in refused({**UNIT, "image": [{"image": "aaaa"}] * 11, "module": "ip-adapter-auto"})


def test_a_request_lets_go_of_the_pictures_that_are_stored() -> None:
    unit = {**UNIT, "image": {"image": "aaaa"}, "mask_image": "bbbb", "weight": 0.5}
    scripts = {"ControlNet": {"args": [unit, None, "other"]}, "soft inpainting": {"args": [True]}}
    forget_pictures(scripts)
    assert unit == {**UNIT, "image": None, "mask_image": None, "weight": 0.5}


def test_older_names_of_fields_and_modes_are_understood() -> None:
    unit = {**UNIT, "input_image": "aaaa", "guidance": 0.6, "lowvram": True}
    found, warnings = sent({**unit, "resize_mode": "Scale to Fit (Inner Fit)"})
    assert found.units[0].guidance_end == 0.6
    assert found.units[0].resize_mode == "Crop and Resize"
    assert found.pictures == {"control/0": "aaaa"}
    assert warnings == []


def test_what_a1111_passes_over_is_set_aside_and_told_or_refused_by_a_strict_gateway() -> None:
    many = [UNIT, UNIT, UNIT, UNIT]
    found, warnings = sent(*many)
    assert len(found.units) == 3
    assert "first 3 units" in warnings[0]
    for unit, word in (
        ({**UNIT, "foo": 1}, "foo"),
        ({**UNIT, "module": "canny", "threshold_a": 300}, "threshold_a"),
    ):
        _, warnings = sent(unit)
        assert word in warnings[0]
        with pytest.raises(Refused, match=word):
            sent(unit, strict=True)


def test_numbers_that_clients_send_to_modules_without_any_are_passed_over_in_silence() -> None:
    found, warnings = sent({**UNIT, "threshold_a": 64, "threshold_b": -1, "processor_res": -1})
    assert (found.units[0].thresholds, found.units[0].resolution) == ((0.5, 0.5), 512)
    assert warnings == []


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ({**UNIT, "module": "Canny"}, "module_list"),
        ({**UNIT, "control_mode": "balanced"}, "Balanced"),
        ({**UNIT, "control_mode": 1}, "Balanced"),
        ({**UNIT, "resize_mode": 1}, "Just Resize"),
        ({**UNIT, "weight": 2.5}, "weight"),
        ({**UNIT, "guidance_start": 0.7, "guidance_end": 0.2}, "guidance_end"),
        ({**UNIT, "mask": "bbbb"}, "it needs an image of the unit"),
        ({**UNIT, "image": ["aaaa", "bbbb", "cccc"]}, "one picture"),
        ({**UNIT, "image": "aaaa", "input_image": "bbbb"}, "the same"),
        ({**UNIT, "union_control_type": "Colour"}, "Depth"),
        ({**UNIT, "pulid_mode": "Extremely style"}, "Fidelity"),
        ({**UNIT, "advanced_weighting": []}, "advanced_weighting"),
    ],
)
def test_what_the_extension_would_fail_on_is_refused_by_field(unit: Any, words: str) -> None:
    message = refused(unit)
    assert message.startswith("alwayson_scripts.controlnet.args[0].")
    assert words in message


def test_arguments_that_are_no_list_are_refused() -> None:
    request = Img2ImgRequest(alwayson_scripts={"controlnet": {"args": {"0": UNIT}}})
    with pytest.raises(Refused, match="a list of units"):
        control_units(request, Leniency(strict=False))


def test_modules_are_listed_as_the_extension_lists_them() -> None:
    assert asyncio.run(module_list()) == LISTS["module_list"]
    assert asyncio.run(module_list(alias_names=True))["module_list"] == LISTS["aliases"]


@pytest.mark.parametrize("kind", [kind for kind in LISTS["control_types"] if kind != "All"])
def test_kinds_of_control_have_their_modules_and_networks(kind: str) -> None:
    titles = LISTS["control_types"]["All"]["model_list"]
    assert _of_kind(kind, titles) == LISTS["control_types"][kind]
