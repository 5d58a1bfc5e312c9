"""Runs a convolutional network over a picture that is too large for it, tile by tile."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2img_worker.models.steps import Steps

#: mean and variance of each group, [B, G, 1]
Statistics = tuple[Tensor, Tensor]


def in_tiles(
    network: Callable[[Tensor], Tensor],
    batch: Tensor,
    *,
    tile: int,
    before: int,
    after: int,
    norms: Sequence[nn.GroupNorm],
) -> Steps[Tensor]:
    """``network(batch)``, assembled from its outputs for overlapping tiles, or directly if one is enough.

    Each tile is a step, between which the network may be used for others.

    All tiles have one size, and overlap by at least a quarter of it. There, each tile weighs more the farther
    its own edge is. Group norms would give each tile its own colours, so they use the statistics of a copy of
    the whole picture that is as small as a tile.

    Args:
        batch: [B, C, H, W].
        tile: width and height of a tile in cells.
        before: rows of `batch` per cell.
        after: rows of the output per cell.
        norms: the network's group norms.
    """
    height, width = (side // before for side in batch.shape[-2:])
    if max(height, width) <= tile:
        return network(batch)
    small = [before * max(1, side * tile // max(height, width)) for side in (height, width)]
    with record_statistics(norms) as statistics:
        network(F.interpolate(batch, size=small, mode="nearest"))
    corners = list(product(starts(height, tile), starts(width, tile)))
    answers = []
    for y, x in corners:
        yield
        with impose_statistics(statistics):
            piece = batch[..., before * y : before * (y + tile), before * x : before * (x + tile)]
            answers.append(network(piece))
    total = answers[0].new_zeros(*answers[0].shape[:2], height * after, width * after)
    weights = torch.zeros_like(total[0, 0])
    for (y, x), answer in zip(corners, answers, strict=True):
        rows, columns = (_ramp(side, answer.device) for side in answer.shape[-2:])
        weight = rows[:, None] * columns
        here = (..., slice(after * y, after * y + len(rows)), slice(after * x, after * x + len(columns)))
        total[here] += answer * weight
        weights[here] += weight
    return total / weights


def starts(side: int, tile: int) -> list[int]:
    """Where the tiles of a side of `side` cells begin: evenly spaced, and the last one ends at the edge."""
    if side <= tile:
        return [0]
    more = ceil((side - tile) / (tile - tile // 4))
    return [round(number * (side - tile) / more) for number in range(more + 1)]


@contextmanager
def record_statistics(norms: Sequence[nn.GroupNorm]) -> Iterator[dict[nn.Module, Statistics]]:
    """Record the statistics of what the norms see within the context."""
    statistics: dict[nn.Module, Statistics] = {}

    def note(norm: nn.GroupNorm, inputs: tuple[Tensor], _: Tensor) -> None:
        groups = _groups(norm, inputs[0])
        statistics[norm] = groups.mean(2, keepdim=True), groups.var(2, keepdim=True, correction=0)

    handles = [norm.register_forward_hook(note) for norm in norms]
    try:
        yield statistics
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def impose_statistics(statistics: dict[nn.Module, Statistics]) -> Iterator[None]:
    """Within the context, the norms use these statistics instead of those of what they see."""

    def impose(norm: nn.GroupNorm, inputs: tuple[Tensor], _: Tensor) -> Tensor:
        mean, variance = statistics[norm]
        (x,) = inputs
        normal = ((_groups(norm, x) - mean) * (variance + norm.eps).rsqrt()).view(x.shape)
        channels = (-1, *(1 for _ in x.shape[2:]))
        return (normal * norm.weight.view(channels) + norm.bias.view(channels)).to(x.dtype)

    handles = [norm.register_forward_hook(impose) for norm in statistics]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _groups(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """[B, C, ...] to float32 [B, G, n]."""
    return x.float().reshape(x.shape[0], norm.num_groups, -1)


def _ramp(side: int, device: torch.device) -> Tensor:
    """1, 2, ... from both edges to the middle: [side]."""
    up = torch.arange(1, side + 1, device=device, dtype=torch.float32)
    return torch.minimum(up, up.flip(0))
