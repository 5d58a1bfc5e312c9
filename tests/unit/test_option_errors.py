"""An option on the wrong side of its command is refused with its right place, and a wrong value plainly."""

import pytest
from typer.testing import CliRunner

from img2img_gateway.commands import app as gateway
from img2img_producer.cli import app


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("jobs --tenant acme", "img2img --tenant … jobs …"),
        ("render a.png --redis-url=redis://farm", "img2img --redis-url … render …"),
        ("models list --farm-url https://farm", "img2img --farm-url … models …"),
        ("--json jobs", "give it after the command: img2img jobs --json …"),
        ("--steps 3 render a.png --out out", "give it after the command: img2img render --steps …"),
    ],
)
def test_its_place_is_told(words: str, told: str) -> None:
    done = CliRunner().invoke(app, words.split(), prog_name="img2img", env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert told in done.output
    assert "Possible options" not in done.output


def test_those_of_the_gateway_are_told_as_well() -> None:
    words = ["key", "list", "--tenant", "acme"]
    done = CliRunner().invoke(gateway, words, prog_name="img2img", env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert "give it before the command: img2img --tenant … key …" in done.output


@pytest.mark.parametrize("words", ["jobs --nonsense", "--nonsense jobs", "--steps 3 jobs", "jobs --tag"])
def test_of_what_has_no_place_none_is_told(words: str) -> None:
    done = CliRunner().invoke(app, words.split(), prog_name="img2img", env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert "the command:" not in done.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("render a.png --out out --steps many", "Invalid value for '--steps': give a whole number"),
        ("render a.png --out out --cfg-scale high", "Invalid value for '--cfg-scale': give a number"),
        ("priority JOB high", "Invalid value for 'value': give a whole number"),
    ],
)
def test_what_is_no_number_is_refused_plainly(words: str, told: str) -> None:
    done = CliRunner().invoke(app, words.split(), prog_name="img2img", env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert f"{told} " in done.output
