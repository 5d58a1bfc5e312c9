"""Tiny control networks with seeded weights, written as they are published."""

from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, T2IAdapter, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn

from img2img_worker.models.checkpoints.key_mapping import control_net_name


def control_net(checkpoint: Path, seed: int) -> ControlNetModel:
    """A ControlNet for the UNet of a checkpoint in diffusers' layout, all of its convolutions at work."""
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet", low_cpu_mem_usage=False)
    torch.manual_seed(seed)
    network: Any = ControlNetModel.from_unet(unet, load_weights_from_unet=True)
    return _shaken(network, ("controlnet_",), 0.3)


def write_diffusers(network: ControlNetModel, path: Path) -> Path:
    """As one file under diffusers' names."""
    save_file(_weights(network), path)
    return path


def write_original(network: ControlNetModel, path: Path, prefix: str = "control_model.") -> Path:
    """As the original repository's file."""
    weights = _weights(network)
    layers = len(network.down_blocks[0].resnets)
    named = {prefix + control_net_name(key, weights, layers=layers): weights[key] for key in weights}
    save_file(named, path)
    return path


def adapter(channels: tuple[int, ...], seed: int) -> T2IAdapter:
    """A full T2I-Adapter of these channels."""
    torch.manual_seed(seed)
    network: Any = T2IAdapter(
        in_channels=3, channels=channels, num_res_blocks=2, downscale_factor=8, adapter_type="full_adapter"
    )
    return _shaken(network, ("adapter.",), 0.1)


def write_original_adapter(network: T2IAdapter, path: Path) -> Path:
    """As its authors' file: two residual blocks a level, in one list."""
    named = {}
    for key, value in _weights(network).items():
        parts = key.removeprefix("adapter.").split(".")
        if parts[0] == "body":
            number = 2 * int(parts[1])
            rest = parts[2:]
            if rest[0] == "resnets":
                number, rest = number + int(rest[1]), rest[2:]
            parts = ["body", str(number), *rest]
        named[".".join(parts)] = value
    save_file(named, path)
    return path


def _shaken(network: Any, prefixes: tuple[str, ...], scale: float) -> Any:
    """Fresh control networks add nothing: their last convolutions are zero."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.startswith(prefixes):
                weight.copy_(scale * torch.randn(weight.shape))
    return network.eval()


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.contiguous() for key, value in network.state_dict().items()}
