"""Makes the layers of a network on a CPU compute a row's bits independently of the number of rows.

A matrix product sums in an order that depends on its shape: with few vectors, a single row is summed in
another order than many. An elementwise function computes the last values of each thread's part one by one,
and rounds them differently; with several threads, the number of rows decides which values these are. And
torch convolves a single small row with another library than several rows.
"""

from collections.abc import Callable
from functools import partial

import torch
from diffusers.models.activations import GEGLU
from torch import Tensor, nn

from img2img_worker.models.families.packed_convolutions import can_pack

#: vectors per row from which on matrix products were found not to depend on the number of rows
MANY_VECTORS = 4
#: values up to which torch considers a single row small (ATen's Convolution.cpp)
SMALL_ROW = 20480


def answer_row_by_row(network: nn.Module) -> None:
    """Have the layers of `network`, on a CPU, give a row the same bits whatever rows come with it."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            layer.forward = partial(_few_vectors, layer.forward)  # type: ignore[method-assign]  # its only
        elif isinstance(layer, nn.SiLU):
            layer.forward = partial(_on_threads, layer.forward)  # type: ignore[method-assign]
        elif isinstance(layer, GEGLU):
            layer.gelu = partial(_on_threads, layer.gelu)
        elif isinstance(layer, nn.Conv2d) and not can_pack(layer):
            layer.forward = partial(_convolve_doubled, layer.forward)  # type: ignore[method-assign]


def _few_vectors(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if x.shape[1:-1].numel() < MANY_VECTORS:
        return _row_by_row(forward, x)
    return forward(x)


def _on_threads(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if torch.get_num_threads() > 1:
        return _row_by_row(forward, x)
    return forward(x)


def _convolve_doubled(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if len(x) == 1 and x.numel() <= SMALL_ROW:
        return forward(torch.cat([x, x]))[:1]
    return forward(x)


def _row_by_row(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return forward(x) if len(x) == 1 else torch.cat([forward(row) for row in torch.split(x, 1)])
