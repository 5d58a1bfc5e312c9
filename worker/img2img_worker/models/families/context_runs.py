"""The contexts of a call's rows, which may be of different lengths."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor


class Run(NamedTuple):
    """Neighbouring rows of a call whose contexts are equally long."""

    rows: slice
    #: [r, n_tokens, d]; or of all the rows, [R, n_tokens, d], where the others' have no meaning
    context: Tensor


def runs_of(contexts: Sequence[Tensor], *, whole: bool = False) -> tuple[Run, ...]:
    """Those of rows in their order.

    Args:
        whole: each has contexts for all rows.
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
    """As a UNet takes them that was made to (`attend_by_length`)."""
    return runs[0].context if len(runs) == 1 else runs
