"""Latents as the tokens that a transformer sees: one of each patch of 2 × 2 cells."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

#: latent cells to a patch, each way
PATCH = 2


def packed(x: Tensor) -> Tensor:
    """A token of each patch: [R, C, h, w] to [R, h/2 · w/2, 4C]."""
    rows, channels, height, width = x.shape
    patches = x.view(rows, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(rows, -1, channels * PATCH**2)


def unpacked(tokens: Tensor, height: int, width: int) -> Tensor:
    """The way back from tokens of height × width patches."""
    patches = tokens.view(tokens.shape[0], height, width, -1, PATCH, PATCH)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(tokens.shape[0], -1, height * PATCH, width * PATCH)


def places(height: int, width: int, device: torch.device) -> Tensor:
    """Where each patch lies, for rotary positions: (0, row, column), [height · width, 3]."""
    ids = torch.zeros(height, width, 3, device=device)
    ids[..., 1] = torch.arange(height, device=device)[:, None]
    ids[..., 2] = torch.arange(width, device=device)
    return ids.view(-1, 3)


@contextmanager
def unrounded(embedding: nn.Module, numbers: tuple[Tensor, ...]) -> Iterator[None]:
    """Meanwhile, `embedding` is given these numbers, which diffusers rounds to the network's precision.

    In bfloat16, a timestep would be off by up to two.
    """

    def give(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (*numbers, *arguments[len(numbers) :])

    handle = embedding.register_forward_pre_hook(give)
    try:
        yield
    finally:
        handle.remove()
