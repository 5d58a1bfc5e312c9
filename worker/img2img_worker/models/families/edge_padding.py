"""What convolutions find beyond a picture's edges: nothing, or its other side."""

from torch import nn


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
