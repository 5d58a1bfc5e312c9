"""Emphasis: A1111's own examples, its odd corners, and that no text is too strange or too deep."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img2img_worker.models.prompts.attention import BREAK, parse_attention

SYNTAX = st.text(st.sampled_from("ab ()[]:\\.1-,\n") | st.characters(), max_size=60)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0),
                ("house", 1.5730000000000004),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641000000000006),
                (".", 1.1),
            ],
        ),
    ],
)
def test_its_own_examples_come_out_as_a1111_documents_them(
    text: str, pieces: list[tuple[str, float]]
) -> None:
    assert parse_attention(text) == pieces


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", [("", 1.0)]),
        ("[x]", [("x", 1 / 1.1)]),
        ("[[x]]", [("x", 1 / 1.1 * (1 / 1.1))]),
        ("(x: +.5 )", [("x", 0.5)]),
        ("(x:-1)", [("x", -1.0)]),
        ("(x:1.3) tail", [("x", 1.3), (" tail", 1.0)]),
        ("x:1.3)", [("x:1.3)", 1.0)]),
        ("x)]", [("x)]", 1.0)]),
        ("(x:1.3]", [("x:1.3]", 1.1)]),
        ("[x:1.3)", [("x:1.3)", 1 / 1.1)]),
        (r"\\(x)", [("\\", 1.0), ("x", 1.1)]),
        (r"a\b", [("ab", 1.0)]),
        ("trailing\\", [("trailing", 1.0)]),
        ("(a [b) c]", [("a ", 1.1), ("b", 1.1 * (1 / 1.1)), (" c", 1 / 1.1)]),
        ("(猫:1.2) 🦊", [("猫", 1.2), (" 🦊", 1.0)]),
    ],
)
def test_brackets_weights_and_escapes_are_read_in_every_corner(
    text: str, pieces: list[tuple[str, float]]
) -> None:
    assert parse_attention(text) == pieces


def test_break_parts_the_text_and_takes_the_spaces_beside_it() -> None:
    assert parse_attention("a cat \n BREAK  a dog") == [("a cat", 1.0), BREAK, ("a dog", 1.0)]
    assert parse_attention("a BREAK BREAK b") == [("a", 1.0), BREAK, ("", 1.0), BREAK, ("b", 1.0)]
    assert parse_attention("BREAKFAST") == [("BREAKFAST", 1.0)]


def test_break_within_brackets_is_a_word_as_in_a1111() -> None:
    assert parse_attention("(a BREAK b)") == [("a", 1.1), ("BREAK", -1.1), ("b", 1.1)]


@pytest.mark.parametrize("weight", ["1.2.3", ".", "...", "9" * 400])
def test_what_is_no_finite_number_stays_text(weight: str) -> None:
    assert parse_attention(f"(x:{weight})") == [(f"x:{weight})", 1.1)]


@given(SYNTAX)
def test_no_text_raises_and_no_character_but_syntax_is_lost(text: str) -> None:
    pieces = parse_attention(text)
    assert pieces
    kept = "".join(piece for piece, _ in pieces)
    assert [char for char in kept if char.isalpha()] == [char for char in text if char.isalpha()]


@given(st.text(st.characters(exclude_characters="()[]\\:"), max_size=60))
def test_plain_text_passes_through(text: str) -> None:
    if "BREAK" not in text:
        assert parse_attention(text) == [(text, 1.0)]


def test_thousands_of_open_brackets_weigh_what_follows_them() -> None:
    pieces = parse_attention("(a" * 10_000)
    assert len(pieces) > 7000
    assert pieces[:2] == [("a", 1.1), ("a", 1.1 * 1.1)]
    assert math.isinf(pieces[-1][1])


def test_thousands_of_nested_brackets_are_read_like_three() -> None:
    ((text, weight),) = parse_attention("[" * 10_000 + "a" + "]" * 10_000)
    assert text == "a"
    assert weight < 1e-300
    ((text, weight),) = parse_attention("(" * 300 + "a" + ")" * 300)
    assert text == "a"
    assert weight == pytest.approx(1.1**300)
