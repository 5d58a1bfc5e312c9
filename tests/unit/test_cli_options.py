"""Every parameter is an option, and options win over the file."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from img2img_producer.cli.options import HELP, read_params_file, with_parameters
from img2img_producer.parameters import merge_params
from img2img_shared.errors import Refused
from img2img_shared.params import Params


def given(*arguments: str) -> dict[str, Any]:
    """The parameters that a command gets for these words."""
    got: dict[str, Any] = {}

    def command(word: str = "", *, parameters: dict[str, Any]) -> None:
        got.update(parameters)

    app = typer.Typer()
    app.command()(with_parameters(command))
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return got


def test_each_parameter_has_its_option_and_a_line_of_help() -> None:
    assert sorted(name for panel in HELP.values() for name in panel) == sorted(Params.model_fields)


def test_only_what_was_given_is_passed_on() -> None:
    assert given() == {}
    assert given("--denoising-strength", "0.4", "--steps", "30") == {"denoising_strength": 0.4, "steps": 30}


def test_a_switch_has_two_names_and_a_false_one_is_passed_on() -> None:
    assert given("--no-mask-round", "--inpaint-full-res") == {"mask_round": False, "inpaint_full_res": True}


def test_values_at_zero_and_below_and_empty_ones_are_passed_on() -> None:
    asked = given("--seed", "-1", "--denoising-strength", "0", "--prompt", "")
    assert asked == {"seed": -1, "denoising_strength": 0.0, "prompt": ""}


@pytest.mark.parametrize("name", Params.model_fields)
def test_a_parameter_arrives_with_the_type_it_has(name: str) -> None:
    default = Params.model_fields[name].default
    option = "--" + name.replace("_", "-")
    if isinstance(default, bool):
        assert given(option) == {name: True}
        return
    schema = Params.model_json_schema()["properties"][name]
    kind = schema.get("type") or schema["anyOf"][0]["type"]
    value = {"string": "x", "integer": 64, "number": 0.5}[kind]
    (arrived,) = given(option, str(value)).values()
    assert (arrived, type(arrived)) == (value, type(value))


def test_mask_blur_sets_both_unless_one_is_given() -> None:
    params = merge_params({"mask_blur": 2}, given("--mask-blur-y", "7"))
    assert (params.mask_blur_x, params.mask_blur_y) == (2, 7)
    params = merge_params({"mask_blur_x": 1}, given("--mask-blur", "9"))
    assert (params.mask_blur_x, params.mask_blur_y) == (9, 9)


def test_help_says_range_and_default() -> None:
    def command(*, parameters: dict[str, Any]) -> None: ...

    signature = inspect.signature(with_parameters(command))
    helps = {name: option.annotation.__metadata__[0].help for name, option in signature.parameters.items()}
    assert "(0..1, default 0.75)" in helps["denoising_strength"]
    assert "(64..2048, multiple of 8, default 512)" in helps["width"]
    assert "(0..10)" in helps["eta"]
    assert "(default true)" in helps["mask_round"]
    assert not re.search(r"\(.*9223372036854775807", helps["seed"])


def test_a_file_of_parameters_is_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"steps": 7, "prompt": "ü"}))
    assert read_params_file(tmp_path / "p.json") == {"steps": 7, "prompt": "ü"}
    assert read_params_file(None) == {}


@pytest.mark.parametrize(("text", "allowed"), [("[1]", "one JSON object"), ("{steps: 3}", "a JSON file")])
def test_a_file_that_holds_no_parameters_is_refused(tmp_path: Path, text: str, allowed: str) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(Refused, match=allowed):
        read_params_file(tmp_path / "p.json")
    with pytest.raises(Refused, match="No such file"):
        read_params_file(tmp_path / "gone.json")
