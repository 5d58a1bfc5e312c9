"""What convolutions see beyond a picture's edges: zeros, or, with `tiling`, its opposite side."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class Padding:
    """The padding of a network's convolutions, changed in place and only when it differs."""

    def __init__(self, network: nn.Module) -> None:
        self._convolutions = [
            module for module in network.modules() if isinstance(module, nn.Conv2d) and any(module.padding)
        ]
        self._is_circular = False

    def apply(self, *, circular: bool) -> None:
        """Have the convolutions wrap around from now on, for pictures that tile seamlessly, or not."""
        if circular == self._is_circular:
            return
        for convolution in self._convolutions:
            convolution.padding_mode = "circular" if circular else "zeros"
        self._is_circular = circular


def pad_input(convolution: nn.Conv2d, x: Tensor) -> tuple[Tensor, Any]:
    """The input that a convolution needs for `x` [R, C, H, W], and the zero padding still to be added."""
    if convolution.padding_mode == "zeros":
        return x, convolution.padding
    around = convolution._reversed_padding_repeated_twice
    return F.pad(x, around, mode=convolution.padding_mode), (0, 0)
