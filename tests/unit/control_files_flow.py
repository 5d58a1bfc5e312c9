"""Tiny control networks for SD 3 and Flux with seeded weights, written as they are published."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    FluxControlNetModel,
    FluxTransformer2DModel,
    SD3ControlNetModel,
    SD3Transformer2DModel,
)
from safetensors.torch import save_file
from torch import Tensor, nn

from img2img_worker.models.checkpoints.key_mapping_flux import flux_name


def sd3_control(checkpoint: Path, seed: int, **more: Any) -> SD3ControlNetModel:
    """A ControlNet for the transformer of a checkpoint in diffusers' layout, with no layer left at zero."""
    transformer = SD3Transformer2DModel.from_pretrained(checkpoint / "transformer", low_cpu_mem_usage=False)
    torch.manual_seed(seed)
    # as many positions as the checkpoint has: another number could be read, but not told from the shapes
    network: Any = SD3ControlNetModel.from_config({**transformer.config, "num_layers": 1, **more})
    return _randomized(network, ("controlnet_blocks.", "pos_embed_input."))


def flux_control(checkpoint: Path, seed: int, **more: Any) -> FluxControlNetModel:
    """As `sd3_control`, for Flux."""
    transformer = FluxTransformer2DModel.from_pretrained(checkpoint / "transformer", low_cpu_mem_usage=False)
    torch.manual_seed(seed)
    layers = {"num_layers": 1, "num_single_layers": 1}
    network: Any = FluxControlNetModel.from_config({**transformer.config, **layers, **more})
    parts = ("controlnet_blocks.", "controlnet_single_blocks.", "controlnet_x_embedder.", "input_hint_block.")
    return _randomized(network, parts)


def write_file(network: nn.Module, path: Path) -> Path:
    """Write it as one file under diffusers' names."""
    save_file(_weights(network), path)
    return path


def write_folder(network: Any, folder: Path, **size: Any) -> Path:
    """Write it as diffusers' folder."""
    network.save_pretrained(folder, **size)
    return folder


def write_without(folder: Path, key: str) -> None:
    """Remove a key from a folder's configuration."""
    config = json.loads((folder / "config.json").read_text())
    del config[key]
    (folder / "config.json").write_text(json.dumps(config))


def write_stability(network: SD3ControlNetModel, path: Path, kind: int | None = None) -> Path:
    """Write it as Stability's file for SD 3.5 Large, which may name its kind of control picture."""
    weights = _weights(network)
    named: dict[str, Tensor] = {}
    for key, value in weights.items():
        renamed = key
        for ours, theirs in (
            ("norm1.linear", "adaLN_modulation.1"),
            ("attn.to_out.0", "attn.proj"),
            ("ff.net.0.proj", "mlp.fc1"),
            ("ff.net.2", "mlp.fc2"),
        ):
            renamed = renamed.replace(ours, theirs)
        if ".attn.to_q." in key:
            parts = [weights[key.replace("to_q", name)] for name in ("to_q", "to_k", "to_v")]
            named[key.replace("to_q", "qkv")] = torch.cat(parts)
        elif ".attn.to_k." not in key and ".attn.to_v." not in key:
            named[renamed] = value
    if kind is not None:
        named["control_type"] = torch.tensor(float(kind))
    save_file(named, path)
    return path


def write_xlabs(network: FluxControlNetModel, path: Path) -> Path:
    """Write it as XLabs' file, in Black Forest Labs' layout."""
    parts: dict[str, list[Tensor]] = {}
    eyes = ("conv_in", *(f"blocks.{i}" for i in range(6)), "conv_out")
    for key, value in _weights(network).items():
        name, kind = key.rsplit(".", 1)
        if name.startswith("input_hint_block."):
            theirs = f"input_hint_block.{2 * eyes.index(name.removeprefix('input_hint_block.'))}.{kind}"
        elif name == "controlnet_x_embedder":
            theirs = f"pos_embed_input.{kind}"
        else:
            theirs = key if name.startswith("controlnet_") else flux_name(key)[0]
        # weights that share a tensor come in its order
        parts.setdefault(theirs, []).append(value)
    save_file({name: torch.cat(values) for name, values in parts.items()}, path)
    return path


def _randomized(network: Any, prefixes: tuple[str, ...]) -> Any:
    """Give the last layers random weights: a freshly initialized control network adds nothing."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.startswith(prefixes):
                weight.copy_(0.3 * torch.randn(weight.shape))
            if "add_v_proj.weight" in name:  # or texts, and a union's kind, would have little effect
                weight.mul_(500)
    return network.eval()


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.contiguous() for key, value in network.state_dict().items()}
