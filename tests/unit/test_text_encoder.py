"""Prompts as embeddings, against a straight retelling of A1111's chunking and emphasis on a tiny CLIP."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from img2img_shared.errors import Refused, WorkerError
from img2img_worker.models.prompts.attention import parse_attention
from img2img_worker.models.prompts.prompt_options import PromptOptions
from img2img_worker.models.prompts.text_encoder import TextEncoder, encode
from img2img_worker.models.steps import run_now
from tests.checkpoints import clip, clip_text, clip_tokenizer_of

TOKENIZER = clip_tokenizer_of()
#: 200 tokens and more, commas at uneven distances, weights, BREAK
LONG = (
    "the cat in the dog, " * 9
    + "(red cat:1.4), [of] the dog "
    + "cat dog red " * 12
    + "BREAK in the (dog, of, the), cat "
    + "red, " * 60
    + "the dog in the red cat of the dog in the cat "
)


@pytest.fixture(scope="module")
def model() -> Any:
    return _trained(clip(3))


@pytest.fixture(scope="module")
def encoder(model: Any) -> TextEncoder:
    return TextEncoder(tokenizer=TOKENIZER, model=clip_text(model))


TEXTS = [
    "",
    "the cat",
    "(the cat:1.5) [in] the red dog",
    "cat " * 75,
    "cat " * 76,
    "cat " * 60 + ", " + "dog " * 40,
    "cat " * 54 + ", " + "dog " * 40,  # the comma is 21 from the end: too far
    "cat " * 55 + ", " + "dog " * 40,
    "cat " * 74 + ", dog, dog",
    "cat " * 75 + ", dog, dog",
    "the cat BREAK the dog",
    "BREAK BREAK the dog BREAK",
    "(the BREAK dog)",
    "猫 🦊 и кот",
    LONG,
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("clip_skip", [1, 2])
def test_any_text_is_encoded_as_a1111_does(
    model: Any, encoder: TextEncoder, text: str, clip_skip: int
) -> None:
    (answer,) = run_now(encoder.encode([text], PromptOptions(clip_skip=clip_skip)))
    torch.testing.assert_close(answer.context, _reference(model, [text], clip_skip)[0])
    assert answer.pooled is None


def test_a_long_prompt_has_as_many_chunks_as_it_needs(encoder: TextEncoder) -> None:
    assert len(TOKENIZER.tokenize([LONG])[0]) > 200
    assert len(encoder.chunks(LONG)) == 4
    assert run_now(encoder.encode([LONG]))[0].context.shape == (4 * 77, 64)


@settings(max_examples=50)
@given(
    st.lists(
        st.sampled_from(["(the cat:1.2) ", "red ", ", ", "BREAK ", "[dog] ", "(of, :0.9)", "🦊"])
        | st.integers(1, 90).map("cat ".__mul__),
        max_size=12,
    ).map("".join)
)
def test_any_mixture_is_cut_where_looking_back_cuts_it(encoder: TextEncoder, text: str) -> None:
    chunks = encoder.chunks(text)
    expected = _reference_chunks(text)
    assert len(chunks) == len(expected)
    for chunk, pairs in zip(chunks, expected, strict=True):
        free = 75 - len(pairs)
        tokens = [token for token, _ in pairs] + [TOKENIZER.end] * (free + 1)
        assert chunk.tokens == (TOKENIZER.start, *tokens)
        assert chunk.weights == (1.0, *(weight for _, weight in pairs), *[1.0] * (free + 1))


def test_a_near_comma_takes_what_follows_to_the_next_chunk(encoder: TextEncoder) -> None:
    near, far = (encoder.chunks("cat " * n + ", " + "dog " * 40) for n in (55, 54))
    cat, comma, dog = TOKENIZER.tokenize(["cat , dog"])[0]
    assert near[0].tokens[1:76] == (cat,) * 55 + (comma,) + (TOKENIZER.end,) * 19
    assert near[1].tokens[1:41] == (dog,) * 40
    assert far[0].tokens[1:76] == (cat,) * 54 + (comma,) + (dog,) * 20


def test_the_texts_of_a_schedule_share_the_mean_as_in_a1111(model: Any, encoder: TextEncoder) -> None:
    texts = ["(the cat:1.6)", "the dog", "(the cat:1.6)", LONG]
    answers = run_now(encoder.encode(texts))
    for answer, expected in zip(answers, _reference(model, texts, 1), strict=True):
        torch.testing.assert_close(answer.context, expected)
    alone = run_now(encoder.encode(texts[:1]))[0].context
    assert not torch.allclose(answers[0].context[:77], alone)


def test_a_text_without_weights_has_the_same_bits_in_any_company(encoder: TextEncoder) -> None:
    alone = run_now(encoder.encode(["the cat"]))[0].context
    beside = run_now(encoder.encode(["the dog", "the cat", "red " * 100]))[1].context
    assert torch.equal(beside[:77], alone)


def test_emphasis_keeps_the_mean_and_changes_the_rest(encoder: TextEncoder) -> None:
    plain, strong = (
        run_now(encoder.encode([text]))[0].context for text in ("the cat in red", "the (cat:1.5) in red")
    )
    assert not torch.allclose(plain, strong)
    torch.testing.assert_close(plain.mean(), strong.mean(), rtol=1e-4, atol=1e-6)


def test_emphasis_may_be_text_or_nothing_or_move_the_mean(encoder: TextEncoder) -> None:
    def encoded(text: str, emphasis: str = "Original") -> Tensor:
        return run_now(encoder.encode([text], PromptOptions(emphasis=emphasis)))[0].context

    text = "the (cat:1.5) BREAK [dog]"
    as_text = encoder.chunks(text, PromptOptions(emphasis="None"))
    (ids,) = TOKENIZER.tokenize([text])
    assert [chunk.tokens[1 : len(ids) + 1] for chunk in as_text] == [tuple(ids)]
    assert torch.equal(encoded(text, "Ignore"), encoded("the cat BREAK dog"))
    weights = torch.tensor([chunk.weights for chunk in encoder.chunks(text)]).view(-1, 1)
    torch.testing.assert_close(encoded(text, "No norm"), encoded("the cat BREAK dog") * weights)
    assert not torch.allclose(encoded(text, "No norm"), encoded(text))


@pytest.mark.parametrize(("backtrack", "first"), [(0, 75), (20, 75), (30, 46), (74, 46)])
def test_how_far_a_comma_is_looked_for_is_an_option(encoder: TextEncoder, backtrack: int, first: int) -> None:
    text = "cat " * 45 + ", " + "dog " * 40
    chunks = encoder.chunks(text, PromptOptions(comma_padding_backtrack=backtrack))
    assert sum(token != TOKENIZER.end for token in chunks[0].tokens) - 1 == first


def test_in_the_old_way_brackets_weigh_all_that_follows_and_75_tokens_count(encoder: TextEncoder) -> None:
    old = PromptOptions(use_old_emphasis_implementation=True)
    the, cat, dog, colon, one = TOKENIZER.tokenize(["the cat dog : 1"])[0]
    (chunk,) = encoder.chunks("the ((cat) [dog : 1", old)
    assert chunk.tokens[1:6] == (the, cat, dog, colon, one)
    assert chunk.weights[1:6] == pytest.approx((1, 1.21, 1, 1, 1))
    (literal,) = encoder.chunks("the ((cat) [dog : 1", replace(old, emphasis="None"))
    assert set(literal.weights) == {1.0}
    assert len(encoder.chunks("cat, " * 90 + "BREAK dog", old)) == 1
    assert encoder.chunks("cat " * 90, old)[0].tokens == encoder.chunks("cat " * 75)[0].tokens


def test_the_old_way_is_that_of_sd_1_alone(model: Any) -> None:
    xl = TextEncoder(tokenizer=TOKENIZER, model=clip_text(model), layer=2)
    with pytest.raises(Refused, match="use_old_emphasis_implementation"):
        xl.chunks("the cat", PromptOptions(use_old_emphasis_implementation=True))


def test_clip_skip_takes_an_earlier_layer_through_the_final_norm(model: Any, encoder: TextEncoder) -> None:
    layers = [run_now(encoder.encode(["the cat"], PromptOptions(clip_skip=n)))[0].context for n in (1, 2, 3)]
    assert not torch.allclose(layers[0], layers[1])
    assert not torch.allclose(layers[1], layers[2])
    tokens = torch.tensor([encoder.chunks("the cat")[0].tokens])
    torch.testing.assert_close(layers[0], model(tokens).last_hidden_state[0].detach())


def test_clip_skip_beyond_the_layers_is_refused(encoder: TextEncoder) -> None:
    with pytest.raises(Refused, match="clip_skip is 5: this checkpoint takes 1 to 4"):
        run_now(encoder.encode(["the cat"], PromptOptions(clip_skip=5)))


def test_a_fixed_layer_ignores_clip_skip_and_may_go_without_norm(model: Any) -> None:
    fixed = TextEncoder(tokenizer=TOKENIZER, model=clip_text(model), layer=2, final_norm=False)
    tokens = torch.tensor([fixed.chunks("the cat")[0].tokens])
    expected = model(tokens, output_hidden_states=True).hidden_states[-2][0].detach()
    for clip_skip in (1, 3):
        options = PromptOptions(clip_skip=clip_skip)
        torch.testing.assert_close(run_now(fixed.encode(["the cat"], options))[0].context, expected)


def test_clip_skip_reaches_a_fixed_layer_where_it_may_and_is_asked_to(model: Any) -> None:
    xl = TextEncoder(tokenizer=TOKENIZER, model=clip_text(model), layer=2, may_skip=True, final_norm=False)
    tokens = torch.tensor([xl.chunks("the cat")[0].tokens])
    states = model(tokens, output_hidden_states=True).hidden_states
    for skips, layer in ((False, 2), (True, 3)):
        options = PromptOptions(clip_skip=3, sdxl_clip_l_skip=skips)
        torch.testing.assert_close(
            run_now(xl.encode(["the cat"], options))[0].context, states[-layer][0].detach()
        )


def test_openclip_is_padded_with_its_own_token_behind_the_first_end(model: Any) -> None:
    tokenizer = clip_tokenizer_of(pad="!")
    chunks = TextEncoder(tokenizer=tokenizer, model=clip_text(model)).chunks("the cat")
    start, end, pad = tokenizer.start, tokenizer.end, tokenizer.pad
    the, cat = tokenizer.tokenize(["the cat"])[0]
    assert pad == 0
    assert chunks[0].tokens == (start, the, cat, end, *[pad] * 73)


def test_weights_beyond_floats_are_refused_by_name(encoder: TextEncoder) -> None:
    with pytest.raises(Refused, match=r"prompt is .* embedding infinite"):
        run_now(encoder.encode(["(" * 2000 + "the cat"]))


@pytest.mark.parametrize("text", ["the cat", "the (cat:1.5)"])
def test_a_damaged_text_encoder_is_not_blamed_on_the_prompt(model: Any, text: str) -> None:
    damaged = deepcopy(model)
    damaged.final_layer_norm.weight.data.fill_(float("nan"))
    with pytest.raises(WorkerError, match=r"embedding is not finite: the text encoder .* damaged"):
        run_now(TextEncoder(tokenizer=TOKENIZER, model=clip_text(damaged)).encode([text]))


def test_hundreds_of_long_texts_are_refused_before_they_cost_minutes_and_gigabytes(
    encoder: TextEncoder,
) -> None:
    longest = "猫" * 20_000
    assert len(run_now(encoder.encode([longest, longest + "cat"]))) == 2
    with pytest.raises(Refused, match=r"prompt is .* at most 450 tokens in each of these 300"):
        run_now(encoder.encode([longest] * 300))
    assert len(run_now(encoder.encode(["the cat " * 200] * 300))) == 300


def test_two_encoders_stand_side_by_side_and_the_first_chunk_is_pooled() -> None:
    first, second = _trained(clip(5)), _trained(clip(6, projects=True))
    pair = [
        TextEncoder(tokenizer=TOKENIZER, model=clip_text(first), layer=2, final_norm=False),
        TextEncoder(tokenizer=clip_tokenizer_of(pad="!"), model=clip_text(second), layer=2, final_norm=False),
    ]
    (answer,) = run_now(encode(pair, ["(the cat:1.2) " + "dog " * 100]))
    parts = [run_now(encoder.encode(["(the cat:1.2) " + "dog " * 100]))[0] for encoder in pair]
    assert torch.equal(answer.context, torch.cat([part.context for part in parts], dim=-1))
    tokens = torch.tensor([pair[1].chunks("(the cat:1.2) " + "dog " * 100)[0].tokens])
    assert answer.pooled is not None
    torch.testing.assert_close(answer.pooled, second(tokens).text_embeds[0].detach())


def test_an_empty_negative_prompt_is_zeros_for_two_encoders_only(encoder: TextEncoder) -> None:
    second = TextEncoder(tokenizer=TOKENIZER, model=clip_text(_trained(clip(6, projects=True))))
    (empty,) = run_now(encode([encoder, second], [""], negative=True))
    assert empty.pooled is not None
    assert not empty.context.any()
    assert not empty.pooled.any()
    assert run_now(encode([encoder, second], [""]))[0].context.any()
    assert run_now(encode([encoder, second], ["", "the cat"], negative=True))[0].context.any()
    assert run_now(encode([encoder], [""], negative=True))[0].context.any()


def _trained(model: Any) -> Any:
    """`model` with norms that move the mean off 0, as training does: else there is none to restore."""
    for name, values in model.named_parameters():
        if "layer_norm" in name:
            torch.nn.init.normal_(values, mean=0.5, std=0.5)
    return model.eval()


def _reference(model: Any, texts: Sequence[str], clip_skip: int) -> Tensor:
    """A1111's encoding retold: all rows of a chunk in one batch, token by token. [B, 77 · chunks, d]"""
    rows = [_reference_chunks(text) for text in texts]
    parts = []
    for number in range(max(map(len, rows))):
        batch = [row[number] if number < len(row) else [] for row in rows]
        ids = torch.full((len(texts), 77), TOKENIZER.end)
        ids[:, 0] = TOKENIZER.start
        weights = torch.ones(len(texts), 77, 1)
        for index, chunk in enumerate(batch):
            for position, (token, weight) in enumerate(chunk, start=1):
                ids[index, position] = token
                weights[index, position] = weight
        with torch.no_grad():
            states = model(ids, output_hidden_states=True).hidden_states
            plain = model.final_layer_norm(states[len(states) - clip_skip])
        parts.append(plain * weights * (plain.mean() / (plain * weights).mean()))
    return torch.hstack(parts)


def _reference_chunks(text: str) -> list[list[tuple[int, float]]]:
    """Tokens with weights of each chunk, found by looking back from each full one."""
    tokens: list[tuple[int, float] | None] = []
    for piece, weight in parse_attention(text):
        if (piece, weight) == ("BREAK", -1):
            tokens.append(None)
        else:
            tokens += [(t, weight) for t in TOKENIZER.tokenize([piece])[0]]
    comma = TOKENIZER.id_of(",</w>")
    chunks: list[list[tuple[int, float]]] = []
    start = 0
    while start < len(tokens):
        end = min(start + 75, len(tokens))
        if None in tokens[start : end + 1]:
            end = tokens.index(None, start)
            chunks.append([token for token in tokens[start:end] if token])
            start = end + 1
            continue
        following = tokens[end] if end < len(tokens) else None
        if following is not None and following[0] != comma:
            commas = [i for i, token in enumerate(tokens[start:end]) if token and token[0] == comma]
            if commas and 75 - commas[-1] <= 20:
                end = start + commas[-1] + 1
        chunks.append([token for token in tokens[start:end] if token])
        start = end
    return chunks or [[]]
