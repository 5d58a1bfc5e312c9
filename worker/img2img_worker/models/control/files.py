"""Reads files of control networks for any family, and builds networks that use every tensor of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_worker.models.checkpoints.shapes_alone import shapes_alone
from img2img_worker.models.checkpoints.tensors import some
from img2img_worker.models.checkpoints.weights import assemble, read_component, read_weights

Weights = Mapping[str, Tensor]

#: what the original repository puts before a ControlNet's names
_PREFIX = "control_model."
#: what diffusers calls a network's file
_DIFFUSERS = "diffusion_pytorch_model"
#: in the names of files that hold a part of a network each
_SHARD = "-of-"
#: tensors by which networks for transformers are known
_SD3, _FLUX = "pos_embed_input.proj.weight", ("controlnet_x_embedder.weight", "pos_embed_input.weight")
_MISTOLINE = "controlnet_blocks.0.linear.weight"


def is_in_own_folder(path: Path) -> bool:
    """Whether a file lies as diffusers saves it, in a folder that has the network's name."""
    return path.stem.startswith(_DIFFUSERS)


def name_of(path: Path) -> str:
    """What the network in a file is called."""
    return path.parent.name if is_in_own_folder(path) else path.stem


def weights_of(path: Path, *, allow_pickles: bool) -> dict[str, Tensor]:
    """The tensors of a file, or of all files that its network was split into, on the CPU.

    Raises:
        Refused: it cannot be read, or holds no tensors.
    """
    whole = path.parent if _SHARD in path.stem else path
    read = read_component if whole.is_dir() else read_weights
    try:
        tensors = read(whole, allow_pickles=allow_pickles)
    except Refused as error:
        raise Refused("control.model", name_of(path), error.reason) from None
    if not tensors:
        raise Refused("control.model", name_of(path), "it holds no tensors by name; use another copy")
    return {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}


def refuse_others(weights: Weights, path: Path, family: str) -> None:
    """
    Args:
        family: the checkpoint's, as `_made_for` calls it.

    Raises:
        Refused: the network is known to be for another family.
    """
    made_for = _made_for(weights)
    if made_for is not None and made_for != family:
        reason = f"it is a control network for {made_for}; use one for {family}, as this checkpoint is"
        raise Refused("control.model", name_of(path), reason)


def unknown_layout(weights: Weights, path: Path, wanted: str) -> Refused:
    """The error for a file in no known layout."""
    reason = f"it has {some(sorted(weights))}, which is unknown; use {wanted}"
    return Refused("control.model", name_of(path), reason)


def build_network(
    path: Path,
    weights: Weights,
    make: Callable[[], Any],
    name: Callable[[str, Weights], str],
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    """Build a network, and load all of the weights into it.

    Args:
        make: builds the network, with any weights.
        name: from the name of one of the network's tensors, and all of these, to its name in the file.

    Raises:
        Refused: weights are missing, superfluous or of another shape.
    """
    wanted = tensors_of(path, make)
    names = {ours: name(ours, wanted) for ours in wanted}
    left = sorted(weights.keys() - set(names.values()))
    if left:
        raise Refused(
            "control.model", name_of(path), f"nothing here uses {some(left)} in it; use another file"
        )
    given = {
        ours: _reshape(weights[theirs], wanted[ours]) for ours, theirs in names.items() if theirs in weights
    }
    try:
        return assemble(make, given, device=device, dtype=dtype, source=name_of(path))
    except Refused as error:
        reason = f"it is no network for this kind of checkpoint: {error.reason}"
        raise Refused("control.model", name_of(path), reason) from None


def tensors_of(path: Path, make: Callable[[], Any]) -> dict[str, Tensor]:
    """A network's tensors by name, with shapes but without data.

    Raises:
        Refused: `make` fails, so that the file's shapes fit no network.
    """
    try:
        with shapes_alone():
            wanted: dict[str, Tensor] = make().state_dict()
    except Exception as error:  # diffusers raises many kinds: see `assemble`
        raise Refused("control.model", name_of(path), f"its shapes fit no network ({error})") from None
    return wanted


def _made_for(weights: Weights) -> str | None:
    """The family that a network is for; None: unknown."""
    if _SD3 in weights:
        return "SD 3"
    if any(name in weights for name in _FLUX) or _MISTOLINE in weights:
        return "Flux"
    known = ("input_hint_block.0.weight", "controlnet_cond_embedding.conv_in.weight", "conv_in.weight")
    is_adapter = any(name.startswith(("adapter.", "body.")) for name in weights)
    return "SD 1, 2 and XL" if is_adapter or any(name in weights for name in known) else None


def _reshape(tensor: Tensor, like: Tensor) -> Tensor:
    """Some layouts have projections as 1 × 1 convolutions, others as matrices."""
    same = tensor.numel() == like.numel() and {tensor.ndim, like.ndim} == {2, 4}
    return tensor.reshape(like.shape) if same else tensor


def same_name(key: str, _known: Weights) -> str:
    """The `name` of `build_network` for files with diffusers' names."""
    return key
