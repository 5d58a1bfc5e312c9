"""Reads control networks for UNets in the layouts that they are published in; refuses unknown tensors."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, ControlNetUnionModel, T2IAdapter
from torch import nn

from img2img_shared.errors import Refused
from img2img_worker.models.checkpoints.infer_config import count, unet_levels
from img2img_worker.models.checkpoints.key_mapping import control_net_name, unet_name
from img2img_worker.models.control.adapter_files import adapter_builder
from img2img_worker.models.control.files import (
    Weights,
    build_network,
    name_of,
    refuse_others,
    same_name,
    unknown_layout,
    weights_of,
)
from img2img_worker.models.control.image_prompt import ImagePromptAdapter
from img2img_worker.models.control.image_prompt_file import is_image_prompt, read_image_prompt
from img2img_worker.models.control.networks import Adapter, ControlNet, ControlNetwork, UnionControlNet
from img2img_worker.models.families.packed_convolutions import pack_convolutions
from img2img_worker.models.families.row_by_row import answer_row_by_row
from img2img_worker.models.families.unet import attend_by_length, norm_single_values

#: settings that a ControlNet takes over from its UNet
_SHARED = (
    "in_channels",
    "attention_head_dim",
    "addition_embed_type",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
    "cross_attention_dim",
)
#: channels of a latent; a ControlNet does not get the further ones of an inpainting UNet
_LATENT = 4


def read_network(
    path: Path,
    key: str,
    *,
    unet: Any,
    own: Callable[[nn.Module], Weights],
    device: torch.device,
    dtype: torch.dtype,
    allow_pickles: bool,
) -> ControlNetwork | ImagePromptAdapter:
    """The control network in a file, for checkpoints with this UNet.

    Args:
        key: a name that no other network has.
        own: the weights of a module as they are without LoRAs.

    Raises:
        Refused: it is of an unknown kind, broken, or for another kind of checkpoint.
    """
    weights: Weights = weights_of(path, allow_pickles=allow_pickles)
    if is_image_prompt(weights):
        return read_image_prompt(path, weights, unet, key=key, device=device, dtype=dtype)
    refuse_others(weights, path, "SD 1, 2 and XL")
    weights = _complete(weights, unet, own)
    build = _builder(path, weights, unet)
    network = build(path, weights, device=device, dtype=dtype)
    _check_channels(path, network, unet)
    if isinstance(network, T2IAdapter):
        return Adapter.of(network, key=key)
    attend_by_length(network)
    norm_single_values(network)
    if device.type == "cpu":
        answer_row_by_row(network)
    pack_convolutions(network)
    kind = UnionControlNet if isinstance(network, ControlNetUnionModel) else ControlNet
    return kind.of(network, key=key, is_pooled="shuffle" in name_of(path).lower())


def _complete(weights: Weights, unet: Any, own: Callable[[nn.Module], Weights]) -> Weights:
    """All weights of a network, also where its file holds only differences from the UNet's."""
    if "lora_controlnet" in weights:
        lora = {name: each for name, each in weights.items() if name != "lora_controlnet"}
        weights = _with_unet(lora, own(unet))
    if "difference" in weights:
        weights = _from_difference(weights, own(unet))
    return weights


def _builder(path: Path, weights: Weights, unet: Any) -> Callable[..., Any]:
    """A function (path, weights, *, device, dtype) that builds the network.

    Raises:
        Refused: the layout is unknown.
    """
    if "input_hint_block.0.weight" in weights:
        return partial(_control_net, config=_original_config(weights, unet), name=_original_name)
    if "task_embedding" in weights:
        return partial(_union, config=_diffusers_config(weights, unet))
    if "controlnet_cond_embedding.conv_in.weight" in weights:
        return partial(_control_net, config=_diffusers_config(weights, unet), name=same_name)
    if (adapter := adapter_builder(weights)) is not None:
        return adapter
    raise unknown_layout(weights, path, "a ControlNet, a T2I-Adapter or an IP-Adapter")


def _check_channels(path: Path, network: Any, unet: Any) -> None:
    """
    Raises:
        Refused: the network's levels are not as wide as the UNet's.
    """
    is_adapter = isinstance(network, T2IAdapter)
    channels = list(network.config.channels if is_adapter else network.config.block_out_channels)
    if is_adapter and network.config.adapter_type == "light_adapter":
        channels.append(channels[-1])
    wanted = unet.config.block_out_channels
    if channels[: len(wanted)] != list(wanted):
        its, wants = (", ".join(map(str, each)) for each in (channels, wanted))
        reason = f"it has {its} channels, where this checkpoint has {wants}"
        raise Refused("control.model", name_of(path), f"{reason}; use one for this kind of checkpoint")


def _control_net(
    path: Path,
    weights: Weights,
    *,
    config: dict[str, Any],
    name: Callable[[str, Weights], str],
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    return build_network(
        path, weights, partial(ControlNetModel.from_config, config), name, device=device, dtype=dtype
    )


def _union(
    path: Path, weights: Weights, *, config: dict[str, Any], device: torch.device, dtype: torch.dtype
) -> Any:
    kinds, size = weights["task_embedding"].shape
    config = config | {
        "num_control_type": kinds,
        "num_trans_channel": size,
        "num_trans_layer": count(weights, "transformer_layes.{}."),
        "num_proj_channel": weights["spatial_ch_projs.weight"].shape[0],
    }
    make = partial(ControlNetUnionModel.from_config, config)
    return build_network(path, weights, make, same_name, device=device, dtype=dtype)


def _from_difference(weights: Weights, unet: Weights) -> Weights:
    """The weights of a network whose file holds their difference from the UNet's."""
    layers = count(unet, "down_blocks.0.resnets.{}.")
    found = {name: each for name, each in weights.items() if name != "difference"}
    for key, value in unet.items():
        name = unet_name(key, unet, layers=layers)
        if name in found:
            found[name] = found[name].to(value) + value
    return found


def _with_unet(weights: Weights, unet: Weights) -> Weights:
    """The weights of a "control LoRA" (Stability): low-rank products added to the UNet's weights.

    What its file lacks is taken from the UNet. Names are the original repository's, `unet`'s are diffusers'.
    """
    layers = count(unet, "down_blocks.0.resnets.{}.")
    found = {name: each for name, each in weights.items() if not name.endswith((".up", ".down"))}
    left = weights.keys() - found.keys()
    for key, value in unet.items():
        if key.startswith(("up_blocks.", "conv_norm_out.", "conv_out.")):
            continue
        name = unet_name(key, unet, layers=layers)
        stem = name.removesuffix(".weight")
        if f"{stem}.up" in weights and name != stem:
            up, down = (weights[f"{stem}.{part}"].to(value).flatten(1) for part in ("up", "down"))
            found[name] = value + (up @ down).reshape(value.shape)
            left -= {f"{stem}.up", f"{stem}.down"}
        else:
            found.setdefault(name, value)
    return found | {name: weights[name] for name in left}  # belong to no layer: `build_network` refuses them


def _original_config(weights: Weights, unet: Any) -> dict[str, Any]:
    levels = unet_levels(weights)
    n_layers = count(weights, "input_hint_block.{}.")
    hint_channels = [weights[f"input_hint_block.{2 * i}.weight"].shape[0] for i in range(n_layers - 1)]
    return _config(
        unet,
        channels=[level["channels"] for level in levels],
        layers=levels[0]["layers"],
        depths=[level["depth"] for level in levels],
        mid=count(weights, "middle_block.1.transformer_blocks.{}."),
        linear=weights["middle_block.1.proj_in.weight"].ndim == 2,
        pictures=weights["input_hint_block.0.weight"].shape[1],
        hint_channels=[hint_channels[0], *hint_channels[2::2]],
    )


def _diffusers_config(weights: Weights, unet: Any) -> dict[str, Any]:
    n = count(weights, "down_blocks.{}.")
    hint_channels = [
        weights[f"controlnet_cond_embedding.blocks.{i}.weight"].shape[0]
        for i in range(count(weights, "controlnet_cond_embedding.blocks.{}."))
    ]
    return _config(
        unet,
        channels=[weights[f"down_blocks.{i}.resnets.0.conv1.weight"].shape[0] for i in range(n)],
        layers=count(weights, "down_blocks.0.resnets.{}."),
        depths=[count(weights, f"down_blocks.{i}.attentions.0.transformer_blocks.{{}}.") for i in range(n)],
        mid=count(weights, "mid_block.attentions.0.transformer_blocks.{}."),
        linear=weights["mid_block.attentions.0.proj_in.weight"].ndim == 2,
        pictures=weights["controlnet_cond_embedding.conv_in.weight"].shape[1],
        hint_channels=[weights["controlnet_cond_embedding.conv_in.weight"].shape[0], *hint_channels[1::2]],
    )


def _config(
    unet: Any,
    *,
    channels: list[int],
    layers: int,
    depths: list[int],
    mid: int,
    linear: bool,
    pictures: int,
    hint_channels: list[int],
) -> dict[str, Any]:
    """A configuration of diffusers' ControlNetModel, from the file's shapes and its UNet's configuration."""
    shared = {name: unet.config[name] for name in _SHARED}
    return shared | {
        "in_channels": _LATENT,
        "block_out_channels": channels,
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "transformer_layers_per_block": [*(depth or 1 for depth in depths[:-1]), mid],
        "use_linear_projection": linear,
        "conditioning_channels": pictures,
        "conditioning_embedding_out_channels": hint_channels,
    }


def _original_name(key: str, known: Weights) -> str:
    return control_net_name(key, known, layers=count(known, "down_blocks.0.resnets.{}."))
