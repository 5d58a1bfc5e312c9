"""The lengths of one image's embeddings, as A1111 has them with and without its options."""

import pytest
import torch
from torch import Tensor

from img2img_shared.params import Params
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.prompts.conditioning import conditioning
from img2img_worker.models.prompts.context_padding import infotext_pairs, pad_contexts
from img2img_worker.models.prompts.prompt_options import DEFAULTS
from img2img_worker.models.steps import run_now
from tests import checkpoints

EMPTY = torch.arange(154.0).reshape(77, 2)


def rows(chunks: int, value: float) -> Tensor:
    """Of one value, but for the last, which is negated."""
    context = torch.full((77 * chunks, 2), value)
    context[-1] *= -1
    return context


def test_prompts_joined_by_and_are_equally_long_and_the_negative_is_not() -> None:
    contexts = [rows(1, 1), rows(2, 2), rows(3, 3)]
    short, long, negative = pad_contexts(contexts, 2, Params(), EMPTY)
    assert torch.equal(short[:77], contexts[0])
    assert (short[76:] == -1).all()  # the last vector again
    assert len(short) == 154
    assert torch.equal(long, contexts[1])
    assert torch.equal(negative, contexts[2])


@pytest.mark.parametrize("positive", [1, 2, 3])
def test_pad_cond_uncond_appends_the_empty_prompt_to_the_shorter(positive: int) -> None:
    prompt, negative = pad_contexts([rows(positive, 1), rows(2, 2)], 1, Params(pad_cond_uncond=True), EMPTY)
    target = max(positive, 2)
    assert torch.equal(prompt, torch.cat([rows(positive, 1), *[EMPTY] * (target - positive)]))
    assert torch.equal(negative, torch.cat([rows(2, 2), *[EMPTY] * (target - 2)]))


def test_what_is_appended_may_be_more_than_one_block_to_a_chunk() -> None:
    sd3 = torch.cat([EMPTY, EMPTY])
    params = Params(pad_cond_uncond=True)
    _, negative = pad_contexts([rows(4, 1), rows(2, 2)], 1, params, sd3)
    assert torch.equal(negative, torch.cat([rows(2, 2), sd3]))


@pytest.mark.parametrize("both", [False, True])
def test_pad_cond_uncond_v0_repeats_the_negatives_last_vector_or_cuts_it(both: bool) -> None:
    params = Params(pad_cond_uncond_v0=True, pad_cond_uncond=both)
    prompt, longer, shorter = pad_contexts([rows(2, 1), rows(3, 2), rows(1, 3)], 1, params, EMPTY)
    assert torch.equal(prompt, rows(2, 1))
    assert torch.equal(longer, rows(3, 2)[:154])
    assert torch.equal(shorter, torch.cat([rows(1, 3), rows(1, 3)[-1:].expand(77, -1)]))


@pytest.mark.parametrize(
    ("prompt", "negative", "differ"),
    [("a b", "c d", False), ("a b c", "d", True), ("a", "b c", True), ("a AND b c", "d e", False)],
)
def test_padding_is_told_where_there_was_any(prompt: str, negative: str, differ: bool) -> None:
    for options, name in (
        ({}, None),
        ({"pad_cond_uncond": True}, "Pad conds"),
        ({"pad_cond_uncond": True, "pad_cond_uncond_v0": True}, "Pad conds v0"),
    ):
        params = Params.model_validate(options)
        found = infotext_pairs(
            conditioning(prompt, negative, params),
            params,
            lambda texts: max(len(text.split()) for text in texts),
        )
        assert found == ({name: True} if name and differ else {})


def test_a_familys_lengths_are_those_of_what_it_encodes(tmp_path_factory: pytest.TempPathFactory) -> None:
    for build in (checkpoints.sd1, checkpoints.sdxl, checkpoints.sd3, checkpoints.flux_schnell):
        family = open_checkpoint(checkpoints.cached(tmp_path_factory, build))
        for prompts in (["a cat"], ["cat", "dog BREAK cat"]):
            encoded = run_now(family.encode_prompts(prompts))
            assert {len(text.context) for text in encoded} == {family.context_length(prompts, DEFAULTS)}
