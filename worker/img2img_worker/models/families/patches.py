"""Latents as a transformer's tokens, one for each patch of 2 × 2 cells."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

#: latent cells per patch, along each side
PATCH = 2


def pack_patches(x: Tensor) -> Tensor:
    """Latents [R, C, h, w] to tokens [R, h/2 · w/2, 4C]."""
    rows, channels, height, width = x.shape
    patches = x.view(rows, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(rows, -1, channels * PATCH**2)


def unpack_patches(tokens: Tensor, height: int, width: int) -> Tensor:
    """Tokens [R, height · width, 4C] back to latents [R, C, 2 · height, 2 · width]."""
    patches = tokens.view(tokens.shape[0], height, width, -1, PATCH, PATCH)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(tokens.shape[0], -1, height * PATCH, width * PATCH)


def positions(height: int, width: int, device: torch.device) -> Tensor:
    """The positions of patches for rotary embeddings, (0, row, column): [height · width, 3]."""
    ids = torch.zeros(height, width, 3, device=device)
    ids[..., 1] = torch.arange(height, device=device)[:, None]
    ids[..., 2] = torch.arange(width, device=device)
    return ids.view(-1, 3)


@contextmanager
def exact_numbers(embedding: nn.Module, numbers: tuple[Tensor, ...]) -> Iterator[None]:
    """Within the context, `embedding` gets these numbers in place of the ones that diffusers has rounded.

    It rounds them to the network's precision: in bfloat16, a timestep would be off by up to two.
    """

    def give(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (*numbers, *arguments[len(numbers) :])

    handle = embedding.register_forward_pre_hook(give)
    try:
        yield
    finally:
        handle.remove()
