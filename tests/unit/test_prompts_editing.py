"""Editing and alternation: A1111's own examples, its grammar as judge, and that depth costs nothing."""

from collections.abc import Iterator
from functools import cache
from itertools import groupby
from typing import Any

import lark
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from img2img_worker.models.prompts.editing import schedule

#: A1111's grammar of a prompt (modules/prompt_parser.py, 1.10)
GRAMMAR = r"""
!start: (prompt | /[][():]/+)*
prompt: (emphasized | scheduled | alternate | plain | WHITESPACE)*
!emphasized: "(" prompt ")" | "(" prompt ":" prompt ")" | "[" prompt "]"
scheduled: "[" [prompt ":"] prompt ":" [WHITESPACE] NUMBER [WHITESPACE] "]"
alternate: "[" prompt ("|" [prompt])+ "]"
WHITESPACE: /\s+/
plain: /([^\\\[\]():|]|\\.)+/
%import common.SIGNED_NUMBER -> NUMBER
"""


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("test", [(10, "test")]),
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3]", [(3, "a "), (10, "a b")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("a [unbalanced", [(10, "a [unbalanced")]),
        ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        ("[a|(b:1.1)]", [(step, "a" if step % 2 else "(b:1.1)") for step in range(1, 11)]),
        ("[fe|]male", [(step, "female" if step % 2 else "male") for step in range(1, 11)]),
        ("[fe|||]male", [(step, "female" if step % 4 == 1 else "male") for step in range(1, 11)]),
    ],
)
def test_its_own_examples_come_out_as_a1111_documents_them(
    prompt: str, expected: list[tuple[int, str]]
) -> None:
    assert schedule(prompt, 10) == tuple(expected)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("[a:b:1.0]", [(10, "a")]),  # a point makes it a share: of all steps
        ("[a:b:1]", [(1, "a"), (10, "b")]),
        ("[a:b:1.5]", [(10, "a")]),
        ("[a:b:99]", [(10, "a")]),
        ("[a:b:0]", [(10, "b")]),
        ("[a:b:-3]", [(10, "b")]),
        ("[a:b:0.09]", [(10, "b")]),
        ("[a:b:1e999]", [(10, "a")]),
        ("[a::4]", [(4, "a"), (10, "")]),
        ("[a:b:c:4]", [(10, "[a:b:c:4]")]),
        ("[a:b:four]", [(10, "[a:b:four]")]),
        ("[x|y:3]", [(10, "[x|y:3]")]),
        ("a | [b:3]", [(10, "a | [b:3]")]),
        ("[b:3] \\", [(10, "[b:3] \\")]),
        (r"\[b:3\]", [(10, r"\[b:3\]")]),
    ],
)
def test_numbers_and_malformed_edits_are_read_in_every_corner(
    prompt: str, expected: list[tuple[int, str]]
) -> None:
    assert schedule(prompt, 10) == tuple(expected)


def test_the_long_example_switches_five_times() -> None:
    prompt = (
        "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75]"
        "[ in foreground::0.6][ in background:0.25] [shoddy:masterful:0.5]"
    )
    landscape = "fantasy landscape with a "
    assert schedule(prompt, 100) == (
        (25, landscape + "mountain and an oak in foreground shoddy"),
        (50, landscape + "lake and an oak in foreground in background shoddy"),
        (60, landscape + "lake and an oak in foreground in background masterful"),
        (75, landscape + "lake and an oak in background masterful"),
        (100, landscape + "lake and a christmas tree in background masterful"),
    )


NUMBERS = st.sampled_from(["1", "3", ".5", "0.25", "1.5", "-1", "+2", "1e1", "1.e0", " 2 ", "0", "7"])
WORDS = st.sampled_from(["a", "b c", " ", "2", r"\[", r"\|", "1.5", "猫", ","])


def _brackets(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    prompts = st.lists(inner | WORDS, max_size=3).map("".join)
    return st.one_of(
        prompts.map("({})".format),
        prompts.map("[{}]".format),
        st.builds("({}:{})".format, prompts, prompts),
        st.builds("[{}:{}]".format, prompts, NUMBERS),
        st.builds("[{}:{}:{}]".format, prompts, prompts, NUMBERS),
        st.lists(prompts, min_size=2, max_size=3).map(lambda choices: f"[{'|'.join(choices)}]"),
    )


WELL_FORMED = st.lists(st.recursive(WORDS, _brackets, max_leaves=6), max_size=3).map("".join)


@settings(max_examples=60)
@given(WELL_FORMED)
def test_well_formed_prompts_come_out_as_a1111s_grammar_has_them(prompt: str) -> None:
    assert schedule(prompt, 5) == _by_grammar(prompt, 5)


@settings(max_examples=60)
@given(st.text(st.sampled_from("[]():|a2 \\"), max_size=5))
def test_short_malformed_prompts_come_out_as_a1111s_grammar_has_them(prompt: str) -> None:
    assert schedule(prompt, 4) == _by_grammar(prompt, 4)


@given(st.text(st.sampled_from("ab[]():|.12 \\\n") | st.characters(), max_size=80), st.integers(1, 30))
def test_no_text_raises_and_the_last_entry_ends_with_the_run(prompt: str, steps: int) -> None:
    entries = schedule(prompt, steps)
    untils = [until for until, _ in entries]
    assert untils == sorted(set(untils))
    assert untils[0] >= 1
    assert untils[-1] == steps


def test_thousands_of_open_brackets_are_text() -> None:
    prompt = "[" * 5000 + "(a:" * 5000
    assert schedule(prompt, 20) == ((20, prompt),)


def test_thousands_of_nested_edits_are_edits() -> None:
    assert schedule("[a:" * 5000 + "b" + ":1]" * 5000, 20) == ((1, "a"), (20, "b"))
    assert [text for _, text in schedule("[a|" * 3000 + "b" + "]" * 3000, 3)] == ["a", "b", "a"]


def test_an_edit_within_an_alternation_keeps_its_own_time() -> None:
    texts = [text for _, text in schedule("[cat|[dog:fox:2]]", 6)]
    assert [text for text, _ in groupby(texts)] == ["cat", "dog", "cat", "fox", "cat", "fox"]


def _by_grammar(prompt: str, steps: int) -> tuple[tuple[int, str], ...]:
    """A1111's reading: one parse by its grammar, spelled out at each step that something ends with."""
    try:
        tree = _parser().parse(prompt)
    except lark.exceptions.LarkError:
        return ((steps, prompt),)
    switches = {steps}
    for node in tree.iter_subtrees():
        if node.data == "scheduled":
            switches.add(_last_step(node, steps))
        elif node.data == "alternate":
            switches.update(range(1, steps + 1))
    ends = sorted(step for step in switches if step >= 1)
    return tuple((step, "".join(_spell(tree, step, steps))) for step in ends)


@cache
def _parser() -> lark.Lark:
    return lark.Lark(GRAMMAR)


def _last_step(node: lark.Tree[Any], steps: int) -> int:
    number = str(node.children[-2])
    return min(steps, int(float(number) * steps if "." in number else float(number)))


def _spell(node: Any, step: int, steps: int) -> Iterator[str]:
    if node is None:
        return
    if isinstance(node, lark.Token):
        yield str(node)
        return
    children = node.children
    if node.data == "scheduled":
        children = [children[0] if step <= _last_step(node, steps) else children[1]]
    elif node.data == "alternate":
        children = [children[(step - 1) % len(children)]]
    for child in children:
        yield from _spell(child, step, steps)


@pytest.mark.parametrize(
    ("when", "new", "old"), [("0.5", 5, 5), ("1.5", 10, 1), ("3", 3, 3), ("1.0", 10, 1), (".25", 2, 2)]
)
def test_in_the_old_way_a_number_below_1_is_a_share(when: str, new: int, old: int) -> None:
    assert schedule(f"[a:b:{when}]", 10)[0] == (new, "a")
    assert schedule(f"[a:b:{when}]", 10, old=True)[0] == (old, "a")


@pytest.mark.parametrize(
    ("when", "first", "second"),
    [("0.5", 5, 0), ("1.5", 10, 4), ("3", 3, 0), ("14", 10, 4), ("2.5", 10, 8), ("30", 10, 8)],
)
def test_after_an_earlier_pass_the_clock_goes_on(when: str, first: int, second: int) -> None:
    def switches(steps: int, earlier: int) -> int:
        """The last step before the edit."""
        entries = schedule(f"[cat:dog:{when}]", steps, earlier=earlier)
        return next((step for step, text in entries if text == "cat"), 0)

    assert switches(10, 0) == first
    assert switches(8, 10) == second
