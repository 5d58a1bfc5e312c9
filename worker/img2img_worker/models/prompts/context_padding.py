"""Pads the embeddings of an image's prompts to the lengths that A1111 gives them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from img2img_shared.params import Params
from img2img_worker.models.prompts.conditioning import Conditioning


def pad_contexts(
    contexts: Sequence[Tensor], positives: int, params: Params, empty: Tensor | None = None
) -> list[Tensor]:
    """One image's contexts [n, d], padded as A1111 does it.

    Prompts joined by ``AND`` become equally long: their last vector is repeated. Positive and negative
    prompts only do with ``pad_cond_uncond``, which appends the empty prompt's embedding to the shorter, and
    with ``pad_cond_uncond_v0``, which repeats the negative prompt's last vector, or cuts it.

    Args:
        contexts: of every text, the first `positives` of them positive.
        empty: the embedding of the empty prompt, which only ``pad_cond_uncond`` needs.
    """
    longest = max(len(context) for context in contexts[:positives])
    prompts = [_extend(context, longest) for context in contexts[:positives]]
    negatives = list(contexts[positives:])
    if params.pad_cond_uncond_v0:
        return prompts + [_extend(context, longest)[:longest] for context in negatives]
    both = prompts + negatives
    target = max(map(len, both))
    if not params.pad_cond_uncond or empty is None:
        return both
    return [torch.cat([context, empty.repeat((target - len(context)) // len(empty), 1)]) for context in both]


def infotext_pairs(
    prompts: Conditioning, params: Params, length: Callable[[Sequence[str]], int]
) -> dict[str, object]:
    """The infotext's entries about padding, by A1111's names.

    Args:
        length: the number of tokens of the contexts of texts that are encoded together.
    """
    if not (params.pad_cond_uncond or params.pad_cond_uncond_v0):
        return {}
    if max(length(part.texts) for part in prompts.positive) == length(prompts.negative.texts):
        return {}
    return {"Pad conds v0" if params.pad_cond_uncond_v0 else "Pad conds": True}


def _extend(context: Tensor, length: int) -> Tensor:
    """The context, its last vector repeated up to `length`; a longer one as it is."""
    missing = max(0, length - len(context))
    return torch.cat([context, context[-1:].expand(missing, -1)]) if missing else context
