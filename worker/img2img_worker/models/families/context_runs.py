"""The contexts of a call's rows, which may be of different lengths."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor


class Run(NamedTuple):
    """Neighbouring rows of a call whose contexts are equally long."""

    rows: slice
    #: their contexts [r, n_tokens, d]; or [R, n_tokens, d] for all rows, with zeros for the others
    context: Tensor


def runs_of(contexts: Sequence[Tensor], *, whole: bool = False) -> tuple[Run, ...]:
    """The runs of a call's rows, in order, with contexts [n_tokens, d].

    Args:
        whole: give each run contexts for all R rows.
    """
    found: list[Run] = []
    for length, members in groupby(contexts, key=len):
        context = torch.stack(list(members))
        start = found[-1].rows.stop if found else 0
        rows = slice(start, start + len(context))
        if whole and len(context) < len(contexts):
            every = context.new_zeros(len(contexts), length, context.shape[-1])
            every[rows] = context
            context = every
        found.append(Run(rows, context))
    return tuple(found)


def as_context(runs: tuple[Run, ...]) -> Tensor | tuple[Run, ...]:
    """The runs as the context of a UNet that `attend_by_length` has changed."""
    return runs[0].context if len(runs) == 1 else runs
