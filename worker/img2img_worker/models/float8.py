"""Keeps weights of layers in 8 bits, and computes with them in the network's own precision."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from img2img_shared.errors import Refused

Network = TypeVar("Network", bound=nn.Module)

#: one sign, four bits of exponent, three of fraction
FLOAT8 = torch.float8_e4m3fn
_LARGEST = torch.finfo(FLOAT8).max
#: least scale: float16's smallest number
_SMALLEST_SCALE = 2.0**-24
#: first and last layers of denoisers, which would cause a sixth of the error and take hardly any memory
_PRECISE = ("conv_in", "conv_out", "pos_embed.proj", "x_embedder", "proj_out")
#: the least compute capability for which the compiler supports float8_e4m3fn
_COMPILES_FROM = (8, 9)


class Float8Weight(nn.Module):
    """A parametrization (torch's) of a layer's weight by numbers in float8_e4m3fn and a scale for each row.

    Near zero, float8_e4m3fn has steps of 1/512, so a weight of 0.01 would keep only a bit or two. Each row is
    therefore scaled to the full range, by a power of two, which loses nothing of weights that are in 8 bits
    in their file.
    """

    def __init__(self) -> None:
        super().__init__()
        #: a weight that the layer uses for the time being; None: its own
        self.instead: Tensor | None = None

    def forward(self, numbers: Tensor, scales: Tensor) -> Tensor:
        """The layer's weight, in the precision of `scales`, [rows, 1, ...]."""
        return dequantized(numbers, scales) if self.instead is None else self.instead

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs from which `forward` makes this weight, up to rounding."""
        return quantized(weight)


def quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight [rows, ...] as float8_e4m3fn, and the scale of each row, [rows, 1, ...]."""
    largest = weight.flatten(1).abs().amax(1).float()
    exponents = (largest / _LARGEST).clamp_min(_SMALLEST_SCALE).log2().ceil()
    # rounded to bfloat16, where a GPU's inexact power becomes an exact one
    scales = exponents.exp2().to(torch.bfloat16).view(-1, *[1] * (weight.ndim - 1))
    return (weight.float() / scales.float()).to(FLOAT8), scales.to(weight.dtype)


def dequantized(numbers: Tensor, scales: Tensor) -> Tensor:
    """The weight that `quantized` was given, up to rounding, in the precision of `scales`."""
    return numbers.to(scales.dtype).mul_(scales)


def keep_in_float8(network: nn.Module) -> dict[str, tuple[str, str]]:
    """Make the linear and convolutional layers of `network`, except `_PRECISE`, keep their weights in 8 bits.

    Returns:
        From the name of each of these weights to the names of the two tensors of `quantized` in its place.
    """
    names = {}
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d) and name not in _PRECISE:
            layer.requires_grad_(False)
            parametrize.register_parametrization(layer, "weight", Float8Weight(), unsafe=True)
            stem = f"{name}.parametrizations.weight.original"
            names[f"{name}.weight"] = (f"{stem}0", f"{stem}1")
    return names


def in_float8(layer: nn.Module) -> bool:
    """Whether the layer has its weight in 8 bits."""
    return parametrize.is_parametrized(layer, "weight")


def own_weight(layer: nn.Module) -> Tensor:
    """The weight that `layer` keeps in 8 bits, in the network's precision, whatever it uses now."""
    own = _parametrization(layer)
    return dequantized(own.original0, own.original1)


def replace_weight(layer: nn.Module, weight: Tensor | None) -> None:
    """Make `layer`, which keeps its weight in 8 bits, use this one unquantized; None: its own again."""
    own = _parametrization(layer)
    own[0].instead = None if weight is None else own_weight(layer).copy_(weight)


def check_device(device: torch.device, *, compiles: bool) -> None:
    """
    Raises:
        Refused: this device cannot work with weights in 8 bits, or not with those of a compiled network.
    """
    try:
        dequantized(*quantized(torch.ones(1, 1, dtype=torch.float16, device=device)))
    except (RuntimeError, TypeError, AssertionError):
        way_out = "leave IMG2IMG_WEIGHTS_DTYPE out, or use another IMG2IMG_DEVICE"
        raise Refused("weights_dtype", "float8", f"{device} does not support it; {way_out}") from None
    if compiles and device.type == "cuda" and torch.cuda.get_device_capability(device) < _COMPILES_FROM:
        reason = f"networks of such weights cannot be compiled for {device}; leave IMG2IMG_COMPILE out"
        raise Refused("weights_dtype", "float8", reason)


def _parametrization(layer: nn.Module) -> Any:
    """The tensors of a layer that has its weight in 8 bits, and the `Float8Weight` that they go through."""
    parametrizations: Any = layer.parametrizations
    return parametrizations.weight
