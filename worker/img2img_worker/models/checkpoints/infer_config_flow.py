"""Infers configurations of SD 3's and Flux's networks from the shapes of weights in the original layout.

What shapes do not tell is the same in all published checkpoints: SD 3's heads have 64 dimensions.
"""

from typing import Any

from img2img_worker.models.checkpoints.infer_config import Weights, count

_SD3_HEAD = 64


def sd3_config(weights: Weights) -> dict[str, Any]:
    """The configuration of diffusers' SD3Transformer2DModel, from the weights of Stability's MMDiT.

    Raises:
        KeyError: a weight is missing that every such network has.
    """
    width, channels, patch, _ = weights["x_embedder.proj.weight"].shape
    layers = count(weights, "joint_blocks.{}.")
    twice = [i for i in range(layers) if f"joint_blocks.{i}.x_block.attn2.qkv.weight" in weights]
    return {
        "sample_size": 128,
        "patch_size": patch,
        "in_channels": channels,
        "out_channels": weights["final_layer.linear.weight"].shape[0] // patch**2,
        "num_layers": layers,
        "attention_head_dim": _SD3_HEAD,
        "num_attention_heads": width // _SD3_HEAD,
        "joint_attention_dim": weights["context_embedder.weight"].shape[1],
        "caption_projection_dim": weights["context_embedder.weight"].shape[0],
        "pooled_projection_dim": weights["y_embedder.mlp.0.weight"].shape[1],
        "pos_embed_max_size": round(weights["pos_embed"].shape[1] ** 0.5),
        "dual_attention_layers": tuple(twice),
        "qk_norm": "rms_norm" if "joint_blocks.0.x_block.attn.ln_q.weight" in weights else None,
    }


def flux_config(weights: Weights) -> dict[str, Any]:
    """The configuration of diffusers' FluxTransformer2DModel, from the weights of Black Forest Labs' Flux.

    Raises:
        KeyError: a weight is missing that every such network has.
    """
    width, channels = weights["img_in.weight"].shape
    head = weights["double_blocks.0.img_attn.norm.query_norm.scale"].shape[0]
    return {
        "in_channels": channels,
        "out_channels": weights["final_layer.linear.weight"].shape[0],
        "num_layers": count(weights, "double_blocks.{}."),
        "num_single_layers": count(weights, "single_blocks.{}."),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": weights["txt_in.weight"].shape[1],
        "pooled_projection_dim": weights["vector_in.in_layer.weight"].shape[1],
        "guidance_embeds": "guidance_in.in_layer.weight" in weights,
    }


def t5_config(weights: Weights) -> dict[str, Any]:
    """The configuration of transformers' T5EncoderModel, version 1.1, from its weights.

    Raises:
        KeyError: a weight is missing that every such network has.
    """
    tokens, size = weights["shared.weight"].shape
    buckets, heads = weights["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"].shape
    return {
        "vocab_size": tokens,
        "d_model": size,
        "d_kv": weights["encoder.block.0.layer.0.SelfAttention.q.weight"].shape[0] // heads,
        "d_ff": weights["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"].shape[0],
        "num_heads": heads,
        "num_layers": count(weights, "encoder.block.{}."),
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu",
    }
