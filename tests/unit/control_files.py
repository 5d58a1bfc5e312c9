"""Tiny control networks with seeded weights, written as they are published."""

from inspect import signature
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, ControlNetUnionModel, T2IAdapter, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn

from img2img_worker.models.checkpoints.key_mapping import control_net_name


def control_net(checkpoint: Path, seed: int) -> ControlNetModel:
    """A ControlNet for the UNet of a checkpoint in diffusers' layout, with no convolution left at zero."""
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet", low_cpu_mem_usage=False)
    torch.manual_seed(seed)
    network: Any = ControlNetModel.from_unet(unet, load_weights_from_unet=True)
    return _randomized(network, ("controlnet_",), 0.3)


def write_diffusers(network: ControlNetModel, path: Path) -> Path:
    """Write it as one file under diffusers' names."""
    save_file(_weights(network), path)
    return path


def write_original(network: ControlNetModel, path: Path, prefix: str = "control_model.") -> Path:
    """Write it as the original repository's file."""
    weights = _weights(network)
    layers = len(network.down_blocks[0].resnets)
    named = {prefix + control_net_name(key, weights, layers=layers): weights[key] for key in weights}
    save_file(named, path)
    return path


def union(checkpoint: Path, seed: int) -> ControlNetUnionModel:
    """A union network of six kinds for the UNet of an SDXL checkpoint."""
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet", low_cpu_mem_usage=False)
    torch.manual_seed(seed)
    names = signature(ControlNetUnionModel.__init__).parameters
    shared = {name: unet.config[name] for name in names if name in unet.config}
    network: Any = ControlNetUnionModel(
        **{**shared, "num_trans_channel": 64, "num_trans_head": 8, "num_proj_channel": 64}
    )
    return _randomized(network, ("controlnet_", "spatial_ch_projs", "task_embedding"), 0.3)


def write_lora(network: ControlNetModel, checkpoint: Path, path: Path) -> Path:
    """A control LoRA: low-rank changes of two of the UNet's layers, and the layers that the UNet lacks.

    The network's other layers must be the UNet's; its two are changed to what the file says.
    """
    weights = _weights(network)
    layers = len(network.down_blocks[0].resnets)
    named = {"lora_controlnet": torch.zeros(())}
    low = ("down_blocks.0.resnets.0.conv1.weight", "mid_block.attentions.0.proj_in.weight")
    for key, value in weights.items():
        name = control_net_name(key, weights, layers=layers)
        if key.startswith("controlnet_"):
            named[name] = value
        elif key in low:
            stem = name.removesuffix(".weight")
            up, down = torch.randn(len(value), 2), torch.randn(2, value[0].numel())
            named |= {f"{stem}.up": up * 0.1, f"{stem}.down": down * 0.1}
            parameter = network.get_parameter(key)
            with torch.no_grad():
                parameter.add_((0.1 * up @ (0.1 * down)).reshape(value.shape))
    save_file(named, path)
    return path


def adapter(channels: tuple[int, ...], seed: int, kind: str = "full_adapter") -> T2IAdapter:
    """A T2I-Adapter of these channels."""
    torch.manual_seed(seed)
    network: Any = T2IAdapter(
        in_channels=3, channels=channels, num_res_blocks=2, downscale_factor=8, adapter_type=kind
    )
    return _randomized(network, ("adapter.",), 0.1)


def write_original_adapter(network: T2IAdapter, path: Path) -> Path:
    """Write it as its authors' file: two residual blocks per level, in one list."""
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


def write_original_light(network: T2IAdapter, path: Path) -> Path:
    """Write a light one as its authors' file."""
    weights = _weights(network)
    named = {key.removeprefix("adapter.").replace(".resnets.", ".body."): weights[key] for key in weights}
    save_file(named, path)
    return path


def write_difference(network: ControlNetModel, checkpoint: Path, path: Path) -> Path:
    """Write it as the original repository's file, minus the weights of the UNet that it was copied from."""
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet", low_cpu_mem_usage=False).state_dict()
    weights = _weights(network)
    layers = len(network.down_blocks[0].resnets)
    named = {
        f"control_model.{control_net_name(key, weights, layers=layers)}": value - unet.get(key, 0)
        for key, value in weights.items()
    }
    save_file({**named, "difference": torch.zeros(())}, path)
    return path


def _randomized(network: Any, prefixes: tuple[str, ...], scale: float) -> Any:
    """Give the last convolutions random weights: a freshly initialized control network adds nothing."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.startswith(prefixes):
                weight.copy_(scale * torch.randn(weight.shape))
    return network.eval()


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.contiguous() for key, value in network.state_dict().items()}
