"""Reads hypernetworks' files, as A1111 trains and saves them."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from img2img_shared.errors import Refused
from img2img_worker.models.checkpoints.weights import assemble
from img2img_worker.models.foreign_files import reading
from img2img_worker.models.pickles import load_pickle

#: the two networks for keys and for values, by the width of their inputs
Layers = Mapping[int, tuple[nn.Module, nn.Module]]

#: activations by A1111's own names; all others are called like torch's classes, in lower case
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leakyrelu": nn.LeakyReLU,
    "elu": nn.ELU,
    "swish": nn.Hardswish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
_ACTIVATIONS |= {
    kind.__name__.lower(): kind
    for kind in (
        *(nn.CELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LogSigmoid, nn.Mish),
        *(nn.PReLU, nn.RReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Softplus, nn.Softshrink, nn.Softsign),
        *(nn.Tanhshrink,),
    )
}
#: prefixes of names in the oldest files
_OLD = {"linear1.": "linear.0.", "linear2.": "linear.1."}
#: the dropout probability between layers in old trainings
_DROPPED = 0.3
#: largest width, and most layers, of a hypernetwork
_WIDEST, _MOST_LAYERS = 8192, 32


class _Network(nn.Module):
    """Fully connected layers; the caller adds their output to their input."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.linear = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.linear(x)
        return answer


def read_hypernetwork(path: Path, device: torch.device) -> Layers:
    """The networks in a file, in float32 as A1111 runs them. No code in the pickle runs.

    Raises:
        Refused: it cannot be read, is no hypernetwork, or has a structure that A1111 does not know either.
    """
    try:
        read = load_pickle(path)
    except (OSError, ValueError) as error:
        raise _refused(path, f"it cannot be read as tensors ({error}); use another copy") from None
    sizes = [size for size in read if type(size) is int] if isinstance(read, dict) else []
    if not sizes:
        raise _refused(path, "it holds no layers by their width; use a hypernetwork")
    try:
        with reading("{}"):
            return {size: _pair(path, size, read, device) for size in sizes}
    except ValueError as error:
        raise _refused(path, f"its structure makes no sense ({error}); use another") from None


def _pair(
    path: Path, size: int, read: Mapping[Any, Any], device: torch.device
) -> tuple[nn.Module, nn.Module]:
    if not 1 <= size <= _WIDEST:
        raise ValueError(f"a width of {size}")
    layers = partial(_layers, size, read)
    key, value = (_network(path, layers, weights, device) for weights in read[size])
    return key, value


def _network(path: Path, layers: Any, weights: Mapping[str, Tensor], device: torch.device) -> nn.Module:
    named = {_renamed(name): weight for name, weight in weights.items()}
    if not all(isinstance(weight, Tensor) and weight.isfinite().all() for weight in named.values()):
        raise ValueError("numbers that are not finite")
    layers()  # its own errors are clearer than those of `assemble`
    try:
        return assemble(
            lambda: _Network(layers()), named, device=device, dtype=torch.float32, source=path.stem
        )
    except Refused as error:
        raise _refused(path, error.reason.replace("checkpoint", "hypernetwork")) from None


def _layers(size: int, read: Mapping[Any, Any]) -> list[nn.Module]:
    """The layers of A1111's ``layer_structure``: for each number a linear layer of that many widths, then
    activation, norm and dropout, if any.

    Dropouts have no effect, but the numbers in later layers' names count them.
    """
    structure = read.get("layer_structure") or [1, 2, 1]
    if not 2 <= len(structure) <= _MOST_LAYERS or structure[0] != 1 or structure[-1] != 1:
        raise ValueError(f"layers of {structure} times the width: 1 is first and last")
    widths = [int(size * multiple) for multiple in structure]
    if not all(1 <= width <= _WIDEST for width in widths):
        raise ValueError(f"layers as wide as {max(widths)}")
    activation, dropouts = _activation(read), _dropouts(read, len(structure))
    activates_last = read.get("activate_output", True)
    layers: list[nn.Module] = []
    for number, (width, after) in enumerate(pairwise(widths), 1):
        layers.append(nn.Linear(width, after))
        if activation is not None and (activates_last or number < len(widths) - 1):
            layers.append(activation())
        if read.get("is_layer_norm", False):
            layers.append(nn.LayerNorm(after))
        if dropouts[number] > 0:
            layers.append(nn.Dropout(dropouts[number]))
    return layers


def _activation(read: Mapping[Any, Any]) -> type[nn.Module] | None:
    name = read.get("activation_func")
    if name is None or name == "linear":
        return None
    if name not in _ACTIVATIONS:
        raise ValueError(f"an activation {name!r}; known are linear, {', '.join(sorted(_ACTIVATIONS))}")
    return _ACTIVATIONS[name]


def _dropouts(read: Mapping[Any, Any], n: int) -> list[float]:
    """The dropout probability of each layer in training; 0 for the first and the last."""
    dropouts = read.get("dropout_structure")
    if dropouts is not None:
        if len(dropouts) != n or not all(0 <= share < 1 for share in dropouts):
            raise ValueError(f"dropouts of {dropouts} between {n} layers")
        return list(dropouts)
    if not read.get("use_dropout", False):
        return [0.0] * n
    last = _DROPPED if read.get("last_layer_dropout", False) else 0.0
    return [0.0, *[_DROPPED] * (n - 3), last, 0.0][:n] if n > 2 else [0.0] * n


def _renamed(name: str) -> str:
    for old, new in _OLD.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _refused(path: Path, reason: str) -> Refused:
    return Refused("hypernetwork", path.stem, reason)
