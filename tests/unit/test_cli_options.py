"""Every parameter is an option, and options win over the file."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.markup import render
from typer.testing import CliRunner

from img2img_producer.cli.options import read_params_file, with_parameters
from img2img_producer.parameters import merge_params
from img2img_shared.errors import Refused
from img2img_shared.param_reference import schema_of
from img2img_shared.params import Params

OPTIONS = [name for name in Params.model_fields if schema_of(name)["type"] != "array"]
SWITCHED_ON = [name for name, field in Params.model_fields.items() if field.default is True]


def given(*arguments: str) -> dict[str, Any]:
    """The parameters that a command gets for these words."""
    got: dict[str, Any] = {}

    def command(word: str = "", *, parameters: dict[str, Any]) -> None:
        got.update(parameters)

    app = typer.Typer()
    app.command()(with_parameters(command))
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, Refused):
        raise result.exception
    assert result.exit_code == 0, result.output
    return got


def help_text() -> dict[str, str]:
    """What --help shows of each parameter, by its option's words."""

    def command(*, parameters: dict[str, Any]) -> None: ...

    signature = inspect.signature(with_parameters(command))
    options = [option.annotation.__metadata__[0] for option in signature.parameters.values()]
    return {
        option.default.removeprefix("--").replace("-", "_"): render(option.help).plain
        for option in options
        if not option.hidden
    }


def test_only_what_was_given_is_passed_on() -> None:
    assert given() == {}
    assert given("--denoising-strength", "0.4", "--steps", "30") == {"denoising_strength": 0.4, "steps": 30}


def test_a_switch_has_two_names_and_a_false_one_is_passed_on() -> None:
    assert given("--no-mask-round", "--inpaint-full-res") == {"mask_round": False, "inpaint_full_res": True}


def test_values_at_zero_and_below_and_empty_ones_are_passed_on() -> None:
    asked = given("--seed", "-1", "--denoising-strength", "0", "--prompt", "")
    assert asked == {"seed": -1, "denoising_strength": 0.0, "prompt": ""}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_parameter_arrives_with_the_type_it_has(name: str) -> None:
    default = Params.model_fields[name].default
    option = "--" + name.replace("_", "-")
    if isinstance(default, bool):
        assert given(option) == {name: True}
        assert given(option.replace("--", "--no-", 1)) == {name: False}
        return
    value = {"string": "x", "integer": 64, "number": 0.5}[schema_of(name)["type"]]
    (arrived,) = given(option, str(value)).values()
    assert (arrived, type(arrived)) == (value, type(value))


def test_mask_blur_sets_both_unless_one_is_given() -> None:
    params = merge_params({"mask_blur": 2}, given("--mask-blur-y", "7"))
    assert (params.mask_blur_x, params.mask_blur_y) == (2, 7)
    params = merge_params({"mask_blur_x": 1}, given("--mask-blur", "9"))
    assert (params.mask_blur_x, params.mask_blur_y) == (9, 9)


def test_a_switch_is_not_turned_on_and_off_at_once() -> None:
    with pytest.raises(Refused, match="give --tiling or --no-tiling, not both"):
        given("--tiling", "--no-tiling")


def test_help_says_what_each_parameter_does_with_its_range_and_default() -> None:
    shown = help_text()
    assert set(shown) == {*OPTIONS, "mask_blur"} - set(SWITCHED_ON) | {f"no_{name}" for name in SWITCHED_ON}
    assert shown["denoising_strength"].endswith("(0 to 1; default 0.75)")
    assert shown["width"].endswith("(64 to 2048, a multiple of 8; default 512)")
    assert shown["resize_mode"].endswith("3 (latent upscale); default 0)")
    assert shown["eta"].endswith("(0 to 10)")
    assert shown["no_mask_round"].startswith("Turn off: Make the mask black and white")
    assert "9223372036854775807" not in shown["seed"]
    assert "In [from:to:when], read" in shown["use_old_scheduling"]


def test_a_file_of_parameters_is_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"steps": 7, "prompt": "ü"}))
    assert read_params_file(tmp_path / "p.json") == {"steps": 7, "prompt": "ü"}
    assert read_params_file(None) == {}


def test_a_file_of_parameters_may_be_one_of_windows(tmp_path: Path) -> None:
    text = '{\r\n"prompt": "ü"\r\n}\r\n'
    (tmp_path / "p.json").write_bytes(text.encode("utf-8-sig"))
    assert read_params_file(tmp_path / "p.json") == {"prompt": "ü"}
    (tmp_path / "p.json").write_bytes(text.encode("utf-16"))
    with pytest.raises(Refused, match="saved as UTF-8"):
        read_params_file(tmp_path / "p.json")


@pytest.mark.parametrize(
    ("text", "allowed"), [("[1]", "one JSON object"), ("{steps: 3}", "a file of valid JSON")]
)
def test_a_file_that_holds_no_parameters_is_refused(tmp_path: Path, text: str, allowed: str) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(Refused, match=allowed):
        read_params_file(tmp_path / "p.json")
    with pytest.raises(Refused, match="No such file"):
        read_params_file(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("K", ["Karras", r"KL\ Optimal"]),
        ('"KL', ["KL Optimal"]),
    ],
)
def test_bash_completes_values_of_several_words(word: str, found: list[str]) -> None:
    asked = {
        "_IMG2IMG_COMPLETE": "complete_bash",
        "COMP_WORDS": f"img2img\nrender\n--scheduler\n{word}",
        "COMP_CWORD": "3",
    }
    command = [sys.executable, "-m", "img2img"]
    answer = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert answer.stdout.splitlines() == found
