"""Which text acts at which model call: comments, LoRA tags, AND, and the clock that edits run on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_shared.prompt_tags import ExtraNetworks, Lora, strip_comments, take_extra_networks, unknown_tags
from img2img_shared.samplers import SAMPLERS
from img2img_worker.models.prompts.conditioning import Conditioning, compose, conditioning


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("a cat  \n", [("a cat", 1.0)]),
        ("a cat :1.2 AND a dog", [("a cat", 1.2), (" a dog", 1.0)]),
        ("a AND b : -.5 AND c:2. ", [("a", 1.0), (" b", -0.5), (" c", 2.0)]),
        ("a:1:2", [("a:1", 2.0)]),
        ("(a:1.3)", [("(a:1.3)", 1.0)]),
        ("sANDy AND_ AND", [("sANDy AND_", 1.0), ("", 1.0)]),
        ("a:" + "9" * 400, [("a:" + "9" * 400, 1.0)]),
        ("two\nlines :0.5", [("two\nlines", 0.5)]),
    ],
)
def test_and_joins_prompts_with_weights(prompt: str, parts: list[tuple[str, float]]) -> None:
    assert compose(prompt) == parts


@pytest.mark.parametrize(
    ("prompt", "text", "loras"),
    [
        ("a <lora:ink:0.8> cat", "a  cat", (Lora(name="ink", text_weight=0.8, unet_weight=0.8),)),
        ("<lyco:ink>", "", (Lora(name="ink"),)),
        ("<lora:ink:0.5:1>", "", (Lora(name="ink", text_weight=0.5, unet_weight=1.0),)),
        ("<lora:ink:unet=0.2:te=3>", "", (Lora(name="ink", text_weight=3.0, unet_weight=0.2),)),
        (
            "<lora:ink:0.5:1:4>",
            "",
            (Lora(name="ink", text_weight=0.5, unet_weight=1.0, dyn=4),),
        ),
        ("<lora:ink:dyn=0:1>", "", (Lora(name="ink", dyn=0),)),
        ("<lora:ink:2:te=0.5>", "", (Lora(name="ink", text_weight=0.5, unet_weight=0.5),)),
        ("<lyco:a><lora:b><lyco:c>", "", (Lora(name="a"), Lora(name="c"), Lora(name="b"))),
        ("<lora:a><lora:b:2>", "", (Lora(name="a"), Lora(name="b", text_weight=2.0, unet_weight=2.0))),
        ("<other:x:1> cat", " cat", ()),
        ("<lora:> a < b <lora:x", "<lora:> a < b <lora:x", ()),
    ],
)
def test_lora_tags_are_taken_out_and_read(prompt: str, text: str, loras: tuple[Lora, ...]) -> None:
    assert take_extra_networks(prompt) == ExtraNetworks(text, loras)


@pytest.mark.parametrize(
    "tag",
    [
        "<lora:b:0,8>",
        "<lora:b:1:1:4.5>",
        "<lora:b:much:te=1>",
        "<lora:b:much>",
        "<lora:b:nan>",
        "<lora:te=1>",
    ],
)
def test_a_malformed_lora_is_refused_by_name(tag: str) -> None:
    with pytest.raises(Refused) as refusal:
        take_extra_networks(f"a cat <lora:a> {tag}")
    assert refusal.value.value == tag


def test_tags_of_other_kinds_are_told() -> None:
    assert unknown_tags("a <lore:x:1> cat <lora:y:1> <LORA:z:1> a < b: c") == ["<lore:x:1>", "<LORA:z:1>"]


def test_comments_end_with_their_line() -> None:
    assert strip_comments("a cat # no dog\non a mat") == "a cat \non a mat"
    assert strip_comments("# all of it\na cat\n#more") == "\na cat\n"


def test_without_comments_a_hash_is_a_character() -> None:
    texts = [conditioning("a #b", "#c", Params(enable_prompt_comments=on)).texts for on in (True, False)]
    assert texts == [("a", "\n"), ("a #b", "#c")]


def test_an_edit_takes_effect_after_its_step() -> None:
    prompts = conditioning("[a:b:2]", "", Params(steps=5))
    texts = [prompts.texts[prompts.at(call)[0][0][0]] for call in range(5)]
    assert texts == ["a", "a", "a", "b", "b"]  # A1111's calls count from 0, its steps from 1


def test_past_the_schedule_the_first_text_is_back_as_in_a1111() -> None:
    prompts = conditioning("[a:b:2]", "", Params(steps=5))
    assert prompts.texts[prompts.at(6)[0][0][0]] == "a"


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_a_share_of_the_steps_is_one_of_the_model_calls(sampler: str) -> None:
    prompts = conditioning("[a:b:0.5]", "", Params(steps=10, sampler_name=sampler))
    doubled = 2 if SAMPLERS[sampler].second_order else 1
    assert prompts.positive[0].entries == ((5 * doubled, "a"), (10 * doubled, "b"))


def test_samplers_of_two_calls_a_step_are_those_of_a1111() -> None:
    found = {name for name, sampler in SAMPLERS.items() if sampler.second_order}
    assert found == {"Heun", "DPM2", "DPM2 a", "DPM++ SDE", "DPM++ 2S a", "Restart"}


def test_rows_point_into_the_texts_with_their_weights() -> None:
    prompts = conditioning("[a:b:1]:2 AND c AND a:-1", "[n|m] AND x <lora:y:1>", Params(steps=4))
    assert prompts.texts == ("a", "b", " c", " a", *(f"{x} AND x <lora:y:1>" for x in "nmnm"))
    assert prompts.at(0) == (((0, 2.0), (2, 1.0), (3, -1.0)), 4)
    assert prompts.at(2) == (((1, 2.0), (2, 1.0), (3, -1.0)), 5)
    assert prompts.loras == ()


PROMPTS = st.text(st.sampled_from("ab[]():|<>#.1 \n\\,") | st.characters(), max_size=60)


@given(PROMPTS, PROMPTS, st.integers(4, 20), st.sampled_from(sorted(SAMPLERS)))
def test_every_call_of_any_prompt_has_its_texts(a: str, b: str, steps: int, sampler: str) -> None:
    params = Params(steps=steps, sampler_name=sampler, denoising_strength=1)
    prompts = conditioning(f"{a} AND {b}", b, params)
    for call in range(2 * steps + 1):
        rows, negative = prompts.at(call)
        assert len(rows) == len(prompts.positive)
        assert [_owner(prompts, index) for index, _ in rows] == list(range(len(rows)))
        assert _owner(prompts, negative) == len(rows)


@given(st.text(st.characters(exclude_characters="()[]\\:|#<>"), max_size=60))
def test_plain_text_passes_through(text: str) -> None:
    if "AND" not in text:
        prompts = conditioning(text, text, Params())
        assert prompts.texts == (text.rstrip(), text)


@pytest.mark.parametrize(
    "hostile", ["<lora:", "<lora", "#\n", ": 1", " ", "AND ", "[a|b]", "(a:1.2), [b:c:3] "]
)
def test_twenty_thousand_characters_are_read(hostile: str) -> None:
    text = (hostile * 20_000)[:20_000]
    assert conditioning(text, text, Params(steps=4)).texts


def _owner(prompts: Conditioning, index: int) -> int:
    """Which of the schedules, the negative one last, holds the text of that index."""
    lengths = [len(part.entries) for part in (*prompts.positive, prompts.negative)]
    return next(i for i in range(len(lengths)) if index < sum(lengths[: i + 1]))


def test_what_only_an_extension_knows_is_refused_not_ignored() -> None:
    with pytest.raises(Refused, match=r"<lora:ink:1:lbw=ALL>.*lbw= is unknown; use te=, unet= and dyn="):
        conditioning("a boat <lora:ink:1:lbw=ALL>", "", Params())


def test_disabled_extra_networks_leave_the_prompt_without_effect() -> None:
    prompts = conditioning("a boat <lora:ink:1>", "", Params(disable_extra_networks=True))
    assert prompts.texts == ("a boat", "")
    assert prompts.loras == ()
