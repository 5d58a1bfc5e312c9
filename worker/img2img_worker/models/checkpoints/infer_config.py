"""Infers a network's configuration from the shapes of its weights in the original layout.

What shapes do not tell is the same in all of Stable Diffusion: norms of 32 groups; 8 heads in 1.x, heads of
64 dimensions wherever projections are linear (2.x, XL); heads of 64 dimensions in CLIP.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

#: weights of one network, named without its prefix
Weights = Mapping[str, Tensor]

_HEAD = 64
#: numbers about a picture that a UNet takes: in SDXL its original size, crop and target size, two each; in
#: SDXL's refiner an aesthetic score in place of the last two
SIZES, REFINER_SIZES = 6, 5


def unet_config(weights: Weights, *, pooled: int | None, sizes: int = SIZES) -> dict[str, Any]:
    """The configuration of diffusers' UNet2DConditionModel, from the weights of ldm's UNetModel.

    Args:
        pooled: dimensions of SDXL's pooled text embedding, else None.
        sizes: how many numbers about the picture SDXL's UNet takes beside that.

    Raises:
        KeyError: a weight is missing that every such network has.
    """
    levels = unet_levels(weights)
    channels = [level["channels"] for level in levels]
    mid = count(weights, "middle_block.1.transformer_blocks.{}.")
    linear = weights["middle_block.1.proj_in.weight"].ndim == 2
    config: dict[str, Any] = {
        "in_channels": weights["input_blocks.0.0.weight"].shape[1],
        "out_channels": weights["out.2.weight"].shape[0],
        "block_out_channels": channels,
        "layers_per_block": levels[0]["layers"],
        "cross_attention_dim": weights["middle_block.1.transformer_blocks.0.attn2.to_k.weight"].shape[1],
        "use_linear_projection": linear,
        "attention_head_dim": [size // _HEAD for size in channels] if linear else 8,
        "transformer_layers_per_block": [*(level["depth"] or 1 for level in levels[:-1]), mid],
        "down_block_types": [_block("Down", level["depth"]) for level in levels],
        "up_block_types": [_block("Up", level["depth"]) for level in reversed(levels)],
    }
    if pooled is not None:
        size = weights["label_emb.0.0.weight"].shape[1]
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (size - pooled) // sizes,
            "projection_class_embeddings_input_dim": size,
        }
    return config


def vae_config(weights: Weights) -> dict[str, Any]:
    """The configuration of diffusers' AutoencoderKL from ldm's weights, without the scale of its latents.

    Raises:
        KeyError: a weight is missing that every such network has.
    """
    levels = count(weights, "encoder.down.{}.")
    channels = [weights[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in range(levels)]
    return {
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "latent_channels": weights["decoder.conv_in.weight"].shape[1],
        "layers_per_block": count(weights, "encoder.down.0.block.{}."),
        "use_quant_conv": "quant_conv.weight" in weights,
        "use_post_quant_conv": "post_quant_conv.weight" in weights,
    }


def clip_config(weights: Weights) -> dict[str, Any]:
    """The configuration of a `ClipText`, from the original CLIP's weights under transformers' names.

    Raises:
        KeyError: a weight is missing that every such network has.
    """
    embeddings = weights["text_model.embeddings.token_embedding.weight"]
    return _text_config(embeddings) | {
        "hidden_act": "quick_gelu",
        "intermediate_size": weights["text_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
        "max_position_embeddings": weights["text_model.embeddings.position_embedding.weight"].shape[0],
        "num_hidden_layers": count(weights, "text_model.encoder.layers.{}."),
    }


def open_clip_config(weights: Weights) -> dict[str, Any]:
    """The configuration of a `ClipText`, from OpenCLIP's weights under OpenCLIP's names.

    Raises:
        KeyError: a weight is missing that every such network has.
    """
    embeddings = weights["token_embedding.weight"]
    config = _text_config(embeddings) | {
        "hidden_act": "gelu",
        "intermediate_size": weights["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        "max_position_embeddings": weights["positional_embedding"].shape[0],
        "num_hidden_layers": count(weights, "transformer.resblocks.{}."),
    }
    if "text_projection" in weights:
        config["projection_dim"] = weights["text_projection"].shape[1]
    return config


def count(names: Iterable[str], pattern: str) -> int:
    """How many different numbers names have at a pattern's ``{}``: ``count(names, "down.{}.")`` levels."""
    before, after = pattern.split("{}")
    numbered = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    return len({found[1] for found in map(numbered.match, names) if found})


def unet_levels(weights: Weights) -> list[dict[str, int]]:
    """Channels, resnets and depth of the transformers (0: none) of each level, finest first."""
    levels = [{"channels": 0, "layers": 0, "depth": 0}]
    for i in range(1, count(weights, "input_blocks.{}.")):
        if f"input_blocks.{i}.0.op.weight" in weights:
            levels.append({"channels": 0, "layers": 0, "depth": 0})
            continue
        level = levels[-1]
        level["channels"] = weights[f"input_blocks.{i}.0.out_layers.3.weight"].shape[0]
        level["layers"] += 1
        level["depth"] = count(weights, f"input_blocks.{i}.1.transformer_blocks.{{}}.")
    return levels


def _text_config(embeddings: Tensor) -> dict[str, Any]:
    tokens, size = embeddings.shape
    return {
        "vocab_size": tokens,
        "hidden_size": size,
        "num_attention_heads": size // _HEAD,
        "projection_dim": size,
        "bos_token_id": tokens - 2,
        "eos_token_id": tokens - 1,
    }


def _block(way: str, depth: int) -> str:
    return f"CrossAttn{way}Block2D" if depth else f"{way}Block2D"
