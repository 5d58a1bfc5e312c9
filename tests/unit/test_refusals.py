"""Every refusal is a sentence with the field, its value and the way out, whatever the value is."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from img2img_shared.errors import Conflict, Refused, Summary, is_refusal
from img2img_shared.farm.submission import new_job
from img2img_shared.modes import InpaintingFill
from img2img_shared.params import Params
from img2img_shared.refusals import read_params
from img2img_shared.suggestions import unknown_name

HOSTILE: list[Any] = [
    None,
    b"\xff" * 1000,
    "x" * 100_000,
    "\x1b[31m\n\u202e",
    "",
    -(10**5000),
    2**70,
    -1e300,
    float("nan"),
    [b"\x00" * 1000] * 1000,
    {"a": {"b": {"c": ["d" * 1000] * 1000}}},
    object(),
]
ROOT = Path(__file__).parents[2]
ROOMS = ("shared", "producer", "gateway", "worker")
#: what a way out begins with
WAY_OUT = re.compile(r"\b(give|use|leave|turn|join|choose|set|draw)\b")


def refused(name: str, value: Any) -> Refused | None:
    try:
        read_params({name: value})
    except Refused as error:
        return error
    return None


@pytest.mark.parametrize("name", Params.model_fields)
def test_hostile_values_of_each_parameter_are_refused_in_a_sentence(name: str) -> None:
    refusals = [error for error in (refused(name, value) for value in HOSTILE) if error is not None]
    assert len(refusals) >= 5
    for error in refusals:
        told = str(error)
        assert re.match(rf"{re.escape(error.field)} (is|are) .+: .+", told), told
        assert name in error.field
        assert is_refusal(told)
        assert WAY_OUT.search(error.reason), told
        assert len(told) < 2000, told
        assert told.isprintable(), told
        assert "\\xff" not in told
        assert "\\x00" not in told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0, "0"),
        ("large", "'large'"),
        (None, "missing"),
        ("", "empty"),
        ([], "empty"),
        (b"GIF8", "data of 4 bytes"),
        (bytearray(2000), "data of 2,000 bytes"),
        ([b"GIF8"], "[data of 4 bytes]"),
        (InpaintingFill.LATENT_NOTHING, "3"),
        (Summary("a file of 12 bytes"), "a file of 12 bytes"),
    ],
)
def test_a_value_is_shown_as_it_was_given_but_never_bytes(value: object, told: str) -> None:
    assert str(Refused("size", value, "give another")) == f"size is {told}: give another"


def test_a_number_that_python_would_not_write_is_measured() -> None:
    assert str(Refused("size", 10**5000, "give another")) == "size is a number of 16,610 bits: give another"


def test_fields_that_contradict_each_other_are_named_together() -> None:
    assert str(Refused("width, height", (1, 2), "give both")) == "width, height are (1, 2): give both"


def test_several_findings_are_told_one_after_the_other_and_keep_their_place() -> None:
    found = Refused("steps", 0, "give more", [Refused("width", 5, "give a multiple of 8")])
    assert str(found) == "steps is 0: give more; width is 5: give a multiple of 8"
    assert str(found.under("inputs[3].")) == (
        "inputs[3].steps is 0: give more; inputs[3].width is 5: give a multiple of 8"
    )


def test_what_else_ended_an_image_is_no_refusal() -> None:
    for text in (
        "out of memory: 128 × 64 is too large for cpu, even alone",
        "the store cannot read inputs/x: no such object",
        "3 workers died on it",
        "RuntimeError: this is odd: it is",
    ):
        assert not is_refusal(text)
    assert is_refusal(str(Conflict("k", ["steps"])))
    assert is_refusal(str(Refused("control/0", None, "give a picture")))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("denoise_strength", "did you mean denoising_strength"),
        ("sampler", "did you mean sampler_name"),
        ("denoise", "did you mean denoising_strength"),
        ("Steps", "did you mean steps"),
        ("negativ_prompt", "did you mean negative_prompt"),
    ],
)
def test_a_misspelt_parameter_is_refused_with_the_one_that_is_meant(name: str, meant: str) -> None:
    error = refused(name, 1)
    assert error is not None
    assert meant in error.reason


def test_a_misspelt_sampler_is_refused_with_the_one_that_is_meant() -> None:
    error = refused("sampler_name", "Eular a")
    assert error is not None
    assert error.reason.startswith("unknown sampler; did you mean Euler a")


def test_a_name_among_hundreds_is_answered_with_a_few() -> None:
    names = [f"lora-{number:03}" for number in range(300)]
    assert unknown_name("LoRA", "lora-07", names).count("lora-") <= 3
    assert unknown_name("LoRA", "zzz", names).endswith(" and 270 more")
    assert unknown_name("LoRA", "x" * 10_000_000, names)
    assert unknown_name("LoRA", "x", []).startswith("unknown LoRA; the workers have none: put it into their ")


def reasons() -> Iterator[tuple[str, str]]:
    """The places where something is refused, and the words of each reason that stand there."""
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Refused" and len(node.args) > 2:
                reason = node.args[2]
                first = reason.values[0] if isinstance(reason, ast.JoinedStr) else reason
                if isinstance(first, ast.Constant):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", str(first.value)


def test_every_reason_is_a_clause_and_not_what_would_be_allowed() -> None:
    found = dict(reasons())
    assert len(found) > 150
    nouns = re.compile(
        r"an? (?!job|archive|png|flow|sentinel)|one of|at most|none|nothing(?! here uses)|less than"
    )
    assert {place: words for place, words in found.items() if nouns.match(words)} == {}


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"priority": 101}, "priority is 101: give at most 100"),
        ({"priority": -101}, "priority is -101: give at least -100"),
        ({"idempotency_key": ""}, "idempotency_key is empty: give some text"),
        ({"name": "x" * 201}, "give at most 200 characters"),
        ({"name": "a\nb"}, "give text in one line"),
        ({"model": ""}, "model is empty: give some text"),
        ({"tags": ("a b",)}, "give a word of at most 64 characters, without spaces or commas"),
    ],
)
def test_what_is_wrong_with_a_job_is_said_plainly(facts: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused) as caught:
        new_job(**{"model": "m", "params": Params(), **facts})
    assert told in str(caught.value)
