"""Layers whose answers for a row depend, on a CPU, on how many rows there are, made not to.

How a matrix product adds up is chosen by its shape, and with few vectors that of one row alone is another
than that of many. A function of each value takes the last few of a thread's share one by one, and rounds them
otherwise: whose they are depends on the number of rows, where there are several threads. And torch has one
small row convolved by another library than several.
"""

from collections.abc import Callable
from functools import partial

import torch
from diffusers.models.activations import GEGLU
from torch import Tensor, nn

from img2img_worker.models.families.packed_convolutions import can_pack

#: vectors of a row from which on a product was seen not to depend on how many rows there are
MANY_VECTORS = 4
#: values up to which torch takes a single row for small (ATen's Convolution.cpp)
SMALL_ROW = 20480


def answer_row_by_row(network: nn.Module) -> None:
    """Has those layers of `network`, which is on a CPU, answer a row alike in any number of them."""
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
