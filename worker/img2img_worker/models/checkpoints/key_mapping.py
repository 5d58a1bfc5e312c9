"""From diffusers' names of weights to those of the original layout (CompVis' ldm, Stability's sgm)."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

_IN_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_HINT_BLOCK = re.compile(r"controlnet_cond_embedding\.blocks\.(\d+)\.")
_IN_VAE = {
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "downsamplers.0": "downsample",
    "upsamplers.0": "upsample",
    "resnets": "block",
    "down_blocks": "down",
    "up_blocks": "up",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
_IN_OPEN_CLIP = {
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
    "final_layer_norm": "ln_final",
    "text_projection.weight": "text_projection",
}


def unet_name(key: str, known: Iterable[str], *, layers: int) -> str:
    """ldm's name, without prefix, for a key of UNet2DConditionModel.

    Args:
        known: all of diffusers' keys, which tell whether a level has attention.
        layers: resnets per level.
    """
    for ours, theirs in _UNET_ENDS.items():
        if key.startswith(f"{ours}."):
            return _inside(theirs + key.removeprefix(ours))
    way, level, part, index, rest = _split_unet(key)
    if way == "down":
        first = 1 + level * (layers + 1)
        if part == "downsamplers":
            return f"input_blocks.{first + layers}.0.op.{rest.removeprefix('conv.')}"
        return _inside(f"input_blocks.{first + index}.{int(part == 'attentions')}.{rest}")
    first = level * (layers + 1)
    if part == "upsamplers":
        attends = any(other.startswith(f"up_blocks.{level}.attentions.") for other in known)
        return f"output_blocks.{first + layers}.{1 + attends}.{rest}"
    return _inside(f"output_blocks.{first + index}.{int(part == 'attentions')}.{rest}")


def control_net_name(key: str, known: Iterable[str], *, layers: int) -> str:
    """The original repository's name, without prefix, for a key of ControlNetModel; see `unet_name`."""
    if key.startswith("controlnet_cond_embedding."):
        last = max(int(found[1]) for found in map(_HINT_BLOCK.match, known) if found)
        part, _, rest = key.removeprefix("controlnet_cond_embedding.").rpartition(".")
        number = {"conv_in": 0, "conv_out": last + 2}.get(part)
        number = int(part.removeprefix("blocks.")) + 1 if number is None else number
        return f"input_hint_block.{2 * number}.{rest}"
    if key.startswith("controlnet_mid_block."):
        return key.replace("controlnet_mid_block", "middle_block_out.0")
    if key.startswith("controlnet_down_blocks."):
        _, number_, rest = key.split(".", 2)
        return f"zero_convs.{number_}.0.{rest}"
    return unet_name(key, known, layers=layers)


def vae_name(key: str, *, levels: int) -> str:
    """ldm's name, without prefix, for a key of AutoencoderKL; ldm counts a decoder's levels down."""
    name = re.sub(r"up_blocks\.(\d+)", lambda found: f"up_blocks.{levels - 1 - int(found[1])}", key)
    return _replaced(name, _IN_VAE)


def open_clip_name(key: str) -> str:
    """OpenCLIP's name, without prefix, for a key of `ClipText`; query, key and value share one."""
    name = _replaced(key.removeprefix("text_model."), _IN_OPEN_CLIP)
    return re.sub(r"self_attn\.[qkv]_proj\.(weight|bias)", r"attn.in_proj_\1", name)


def open_clip_tensor(key: str, tensor: Tensor) -> Tensor:
    """The weight of `ClipText`'s `key`, from OpenCLIP's tensor that `open_clip_name` names."""
    if key.endswith("text_projection.weight"):
        return tensor.T.contiguous()
    for part, letter in enumerate("qkv"):
        if f"self_attn.{letter}_proj." in key:
            return tensor.chunk(3)[part]
    return tensor


def _split_unet(key: str) -> tuple[str, int, str, int, str]:
    found = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", key)
    if found is None:
        raise KeyError(key)
    return found[1], int(found[2]), found[3], int(found[4]), found[5]


def _inside(name: str) -> str:
    """The name with the parts of a resnet renamed; within a transformer both layouts agree."""
    if ".transformer_blocks." in name:
        return name
    return _replaced(name, _IN_UNET_RESNET)


def _replaced(name: str, table: Mapping[str, str]) -> str:
    for ours, theirs in table.items():
        name = re.sub(rf"(?<![^.]){re.escape(ours)}(?![^.])", theirs, name)
    return name
