"""Reads control networks for SD 3 and Flux: in diffusers' layout, Stability's (SD 3.5) or XLabs' (Flux)."""

import re
from collections.abc import Callable
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxControlNetModel, SD3ControlNetModel
from torch import Tensor, nn

from img2img_shared.errors import Refused
from img2img_worker.models.checkpoints.infer_config import count
from img2img_worker.models.checkpoints.key_mapping_flux import flux_name
from img2img_worker.models.checkpoints.tensors import some
from img2img_worker.models.checkpoints.weights import read_json
from img2img_worker.models.control.files import (
    Weights,
    build_network,
    is_in_own_folder,
    name_of,
    refuse_others,
    same_name,
    tensors_of,
    unknown_layout,
    weights_of,
)
from img2img_worker.models.control.flow_networks import FluxControlNet, SD3ControlNet
from img2img_worker.models.families.patches import PATCH
from img2img_worker.models.families.vae import Vae

#: the file with a network's configuration, in diffusers' folders
_CONFIG = "config.json"
#: the number that says "edges" in files of Stability's networks for SD 3.5 Large; 0 is blur, 2 depth
_CANNY = 1
#: factor and summand that turn a picture's values from 0 to 1 into the VAE's input from -1 to 1
_LEVELS = (2.0, -1.0)
#: the same for edges, as Stability's network was trained: from 0.5 to 128
_CANNY_LEVELS = (127.5, 0.5)
#: from diffusers' names within a block to Stability's, and to the part of the tensor
_IN_STABILITYS = {
    "norm1.linear": ("adaLN_modulation.1", None),
    "attn.to_q": ("attn.qkv", 0),
    "attn.to_k": ("attn.qkv", 1),
    "attn.to_v": ("attn.qkv", 2),
    "attn.to_out.0": ("attn.proj", None),
    "ff.net.0.proj": ("mlp.fc1", None),
    "ff.net.2": ("mlp.fc2", None),
}


def read_sd3_network(
    path: Path,
    key: str,
    *,
    transformer: Any,
    own: Callable[[nn.Module], Weights],
    vae: Vae,
    device: torch.device,
    dtype: torch.dtype,
    allow_pickles: bool,
) -> SD3ControlNet:
    """The control network in a file, for checkpoints of SD 3 with this transformer.

    Args:
        key: a name that no other network has.
        own: the weights of a module as they are without LoRAs.

    Raises:
        Refused: it is of an unknown kind, broken, or for another kind of checkpoint.
    """
    weights: Weights = weights_of(path, allow_pickles=allow_pickles)
    refuse_others(weights, path, "SD 3")
    if "pos_embed_input.proj.weight" not in weights:
        raise unknown_layout(weights, path, "a ControlNet for SD 3")
    _refuse_width(path, weights["pos_embed_input.proj.weight"], transformer)
    control_type = weights.get("control_type")
    weights = {name: each for name, each in weights.items() if name != "control_type"}
    if "transformer_blocks.0.adaLN_modulation.1.weight" in weights:
        weights = _from_stability(path, weights, transformer)
    config = _sd3_config(weights, transformer)
    make = partial(SD3ControlNetModel.from_config, config)
    network = build_network(path, weights, make, same_name, device=device, dtype=dtype)
    if network.pos_embed is None:  # Stability's for SD 3.5 Large use the transformer's own layer
        positions = network._get_pos_embed_from_transformer(transformer)
        positions.load_state_dict(own(transformer.pos_embed))
        network.pos_embed = positions.to(device=device, dtype=dtype).requires_grad_(False)
        is_canny = "canny" in name_of(path).lower() if control_type is None else int(control_type) == _CANNY
    else:
        is_canny = False
    takes_pooled_text = not _forces_zeros(path, config)
    return SD3ControlNet(
        key=key,
        network=network,
        vae=vae,
        shifts=takes_pooled_text or config["extra_conditioning_channels"] > 0,
        takes_pooled_text=takes_pooled_text,
        levels=_CANNY_LEVELS if is_canny else _LEVELS,
    )


def read_flux_network(
    path: Path,
    key: str,
    *,
    transformer: Any,
    vae: Vae,
    device: torch.device,
    dtype: torch.dtype,
    allow_pickles: bool,
) -> FluxControlNet:
    """As `read_sd3_network`, for checkpoints of Flux."""
    weights: Weights = weights_of(path, allow_pickles=allow_pickles)
    refuse_others(weights, path, "Flux")
    if "pos_embed_input.weight" in weights and "double_blocks.0.img_mod.lin.weight" in weights:
        weights = _from_xlabs(path, weights, transformer)
    if "controlnet_x_embedder.weight" not in weights:
        raise unknown_layout(weights, path, "a ControlNet for Flux in diffusers' or XLabs' layout")
    _refuse_width(path, weights["controlnet_x_embedder.weight"], transformer)
    make = partial(FluxControlNetModel.from_config, _flux_config(weights, transformer))
    network = build_network(path, weights, make, same_name, device=device, dtype=dtype)
    return FluxControlNet.of(network, key=key, vae=vae)


def _sd3_config(weights: Weights, transformer: Any) -> dict[str, Any]:
    """A configuration of SD3ControlNetModel, from the file's shapes and its transformer's configuration."""
    n = count(weights, "transformer_blocks.{}.")
    own = dict(transformer.config)
    twice = [i for i in range(n) if f"transformer_blocks.{i}.attn2.to_q.weight" in weights]
    positions = weights.get("pos_embed.pos_embed")
    return own | {
        "num_layers": n,
        "joint_attention_dim": own["joint_attention_dim"] if "context_embedder.weight" in weights else None,
        "pos_embed_max_size": own["pos_embed_max_size"]
        if positions is None
        else isqrt(positions.shape[1] if positions.ndim == 3 else 0),
        "extra_conditioning_channels": weights["pos_embed_input.proj.weight"].shape[1] - own["in_channels"],
        "dual_attention_layers": tuple(twice),
        "qk_norm": "rms_norm" if "transformer_blocks.0.attn.norm_q.weight" in weights else None,
        "use_pos_embed": "pos_embed.proj.weight" in weights,
    }


def _flux_config(weights: Weights, transformer: Any) -> dict[str, Any]:
    """As `_sd3_config`, for FluxControlNetModel."""
    modes = weights.get("controlnet_mode_embedder.weight")
    hint = weights.get("input_hint_block.conv_out.weight")
    return dict(transformer.config) | {
        "patch_size": 1 if hint is None else PATCH,
        "num_layers": count(weights, "transformer_blocks.{}."),
        "num_single_layers": count(weights, "single_transformer_blocks.{}."),
        "guidance_embeds": "time_text_embed.guidance_embedder.linear_1.weight" in weights,
        "num_mode": None if modes is None else modes.shape[0],
        "conditioning_embedding_channels": None if hint is None else hint.shape[0],
    }


def _refuse_width(path: Path, layer: Tensor, transformer: Any) -> None:
    if layer.shape[0] != transformer.inner_dim:
        reason = f"it has {layer.shape[0]} channels, where this checkpoint has {transformer.inner_dim}"
        raise Refused("control.model", name_of(path), f"{reason}; use one for this kind of checkpoint")


def _forces_zeros(path: Path, config: dict[str, Any]) -> bool:
    """Whether a network for SD 3 gets zeros in place of the pooled text embedding, which no shape tells.

    InstantX' do, and all in diffusers' pipeline for inpainting; Stability's get the embedding.
    """
    if config["extra_conditioning_channels"]:
        return True
    beside = path.parent / _CONFIG
    if is_in_own_folder(path) and beside.is_file():
        return bool(read_json(beside).get("force_zeros_for_pooled_projection", True))
    return bool(config["use_pos_embed"])


def _from_stability(path: Path, weights: Weights, transformer: Any) -> Weights:
    """Stability's file for SD 3.5 Large under diffusers' names.

    Raises:
        Refused: it is of the first release, which diffusers cannot run.
    """
    pooled = weights.get("time_text_embed.text_embedder.linear_1.weight")
    if pooled is None or pooled.shape[1] != transformer.config.pooled_projection_dim:
        reason = (
            "it is of a kind that only Stability's own code runs; use its 8B version, in diffusers' layout"
        )
        raise Refused("control.model", name_of(path), reason)
    # Stability's code does not use these, either
    weights = {name: each for name, each in weights.items() if not name.startswith("pos_embed.proj.")}
    config = _sd3_config(weights, transformer)
    keys = tensors_of(path, partial(SD3ControlNetModel.from_config, config))
    return _convert(path, weights, keys, _stability_name, transformer.inner_dim)


def _stability_name(key: str) -> tuple[str, int | None]:
    block = re.fullmatch(r"(transformer_blocks\.\d+)\.(.+)\.(weight|bias)", key)
    if block is None:
        return key, None
    inside, part = _IN_STABILITYS[block[2]]
    return f"{block[1]}.{inside}.{block[3]}", part


def _from_xlabs(path: Path, weights: Weights, transformer: Any) -> Weights:
    """XLabs' file, in Black Forest Labs' layout, under diffusers' names."""
    config = dict(transformer.config) | {
        "patch_size": PATCH,
        "num_layers": count(weights, "double_blocks.{}."),
        "num_single_layers": count(weights, "single_blocks.{}."),
        "guidance_embeds": "guidance_in.in_layer.weight" in weights,
        "conditioning_embedding_channels": transformer.config.in_channels // PATCH**2,
    }
    keys = tensors_of(path, partial(FluxControlNetModel.from_config, config))
    return _convert(path, weights, keys, _xlabs_name, transformer.inner_dim)


def _xlabs_name(key: str) -> tuple[str, int | None]:
    if key.startswith(("controlnet_blocks.", "controlnet_single_blocks.")):
        return key, None
    name, kind = key.rsplit(".", 1)
    if name == "controlnet_x_embedder":
        return f"pos_embed_input.{kind}", None
    hint = re.fullmatch(r"input_hint_block\.(?:(conv_in)|blocks\.(\d+)|conv_out)", name)
    if hint is not None:
        # XLabs' list has the activations between the convolutions, too
        place = 0 if hint[1] else 14 if hint[2] is None else 2 * int(hint[2]) + 2
        return f"input_hint_block.{place}.{kind}", None
    return flux_name(key)


def _convert(
    path: Path,
    weights: Weights,
    keys: Weights,
    name: Callable[[str], tuple[str, int | None]],
    width: int,
) -> Weights:
    """The weights under the network's `keys`.

    Args:
        name: from a key to the tensor's name in the file and, if it holds several keys' weights, the part.
        width: of the transformer's tokens, and so of such parts.

    Raises:
        Refused: the file has a tensor that no key uses.
    """
    names = {key: name(key) for key in keys}
    left = sorted(weights.keys() - {theirs for theirs, _ in names.values()})
    if left:
        raise Refused(
            "control.model", name_of(path), f"nothing here uses {some(left)} in it; use another file"
        )
    return {
        key: weights[theirs]
        if part is None or weights[theirs].ndim == 0
        else weights[theirs].tensor_split([width, 2 * width, 3 * width])[part]
        for key, (theirs, part) in names.items()
        if theirs in weights
    }
