"""What convolutions find beyond a picture's edges: nothing, or its other side."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class Padding:
    """The convolutions of a network, whose padding is changed in place and only when it is another."""

    def __init__(self, network: nn.Module) -> None:
        self._convolutions = [
            module for module in network.modules() if isinstance(module, nn.Conv2d) and any(module.padding)
        ]
        self._is_circular = False

    def apply(self, *, circular: bool) -> None:
        """From now on they wrap around, or not; where they do, answers can be laid side by side."""
        if circular == self._is_circular:
            return
        for convolution in self._convolutions:
            convolution.padding_mode = "circular" if circular else "zeros"
        self._is_circular = circular


def padded(convolution: nn.Conv2d, x: Tensor) -> tuple[Tensor, Any]:
    """What a convolution of `x` [R, C, H, W] is to be given, and the zeros that are to be put around that."""
    if convolution.padding_mode == "zeros":
        return x, convolution.padding
    around = convolution._reversed_padding_repeated_twice
    return F.pad(x, around, mode=convolution.padding_mode), (0, 0)
