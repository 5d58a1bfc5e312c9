"""Keeps the weights of convolutions on a CPU in the memory layout of oneDNN, which computes them.

torch converts plain weights to that layout in each call. In a UNet of SD 1.5's size that takes longer than
the convolutions themselves where latents are small.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from img2img_worker.models.families.edge_padding import pad_input
from img2img_worker.models.float8 import in_float8

#: weights of the smallest layer for which it pays: 3 × 3, from 256 to 256 channels
LEAST = 256 * 256 * 9


def pack_convolutions(network: nn.Module) -> None:
    """Pack the weights of the large convolutions of `network`, if it is on a CPU.

    A packed `weight` still has its shape, but must be read by `unpack` and changed by `repack`.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and can_pack(module):
            repack(module, module.weight)
            module.forward = partial(_convolve, module)  # type: ignore[method-assign]  # this network's only


def unpack(weight: Tensor) -> Tensor:
    """The weights in the order of their indices; a copy if they are packed."""
    return weight.to_dense() if weight.is_mkldnn else weight


def repack(convolution: Any, weight: Tensor) -> None:
    """Give a convolution other weights, packed."""
    packed = torch.ops.mkldnn._reorder_convolution_weight(  # the same layout for inputs of any size
        weight,
        convolution.padding,
        convolution.stride,
        convolution.dilation,
        convolution.groups,
    )
    convolution.weight = nn.Parameter(packed, requires_grad=False)


def can_pack(convolution: nn.Conv2d) -> bool:
    """Whether `pack_convolutions` packs it."""
    if in_float8(convolution):
        return False
    weight = convolution.weight
    is_large = weight.numel() >= LEAST and convolution.kernel_size != (1, 1) and convolution.groups == 1
    return is_large and weight.device.type == "cpu" and _packs(weight.dtype)


def _packs(dtype: torch.dtype) -> bool:
    """Whether torch's oneDNN has a packed layout for this type on this processor."""
    if not torch._C._has_mkldnn:
        return False
    return dtype == torch.float32 or (
        dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def _convolve(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    x, padding = pad_input(convolution, x)
    answer: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x,
        convolution.weight,
        convolution.bias,
        padding,
        convolution.stride,
        convolution.dilation,
        convolution.groups,
        "none",
        [],
        "",
    )
    return answer
