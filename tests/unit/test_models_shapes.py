"""The published checkpoints' configurations follow from their weights' shapes (on torch's meta device)."""

from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

from img2img_worker.models.checkpoints import infer_config, infer_config_flow, key_mapping
from tests.original_flow import flux_original, sd3_original

SD1: dict[str, Any] = {
    "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "in_channels": 4,
    "layers_per_block": 2,
    "out_channels": 4,
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
}
SD2 = SD1 | {
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
SDXL: dict[str, Any] = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "attention_head_dim": (5, 10, 20),
    "block_out_channels": (320, 640, 1280),
    "cross_attention_dim": 2048,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "in_channels": 4,
    "layers_per_block": 2,
    "out_channels": 4,
    "projection_class_embeddings_input_dim": 2816,
    "transformer_layers_per_block": (1, 2, 10),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True,
}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "latent_channels": 4,
    "layers_per_block": 2,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
SD3: dict[str, Any] = {
    "attention_head_dim": 64,
    "caption_projection_dim": 1536,
    "dual_attention_layers": (),
    "in_channels": 16,
    "joint_attention_dim": 4096,
    "num_attention_heads": 24,
    "num_layers": 24,
    "out_channels": 16,
    "patch_size": 2,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
    "qk_norm": None,
    "sample_size": 128,
}
SD35_LARGE = SD3 | {
    "caption_projection_dim": 2432,
    "num_attention_heads": 38,
    "num_layers": 38,
    "qk_norm": "rms_norm",
}
SD35_MEDIUM = SD3 | {
    "dual_attention_layers": tuple(range(13)),
    "pos_embed_max_size": 384,
    "qk_norm": "rms_norm",
}
FLUX: dict[str, Any] = {
    "attention_head_dim": 128,
    "in_channels": 64,
    "joint_attention_dim": 4096,
    "num_attention_heads": 24,
    "num_layers": 19,
    "num_single_layers": 38,
    "out_channels": 64,
    "pooled_projection_dim": 768,
}
T5_XXL: dict[str, Any] = {
    "d_ff": 10240,
    "d_kv": 64,
    "d_model": 4096,
    "feed_forward_proj": "gated-gelu",
    "num_heads": 64,
    "num_layers": 24,
    "relative_attention_num_buckets": 32,
    "vocab_size": 32128,
}
CLIP_L: dict[str, Any] = {
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "max_position_embeddings": 77,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "projection_dim": 768,
    "vocab_size": 49408,
}
OPEN_CLIP_G = CLIP_L | {
    "hidden_act": "gelu",
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_attention_heads": 20,
    "num_hidden_layers": 32,
    "projection_dim": 1280,
}


@pytest.mark.parametrize(
    ("config", "pooled"),
    [
        (SD1, None),
        (SD1 | {"in_channels": 9}, None),
        (SD2, None),
        (SDXL, 1280),
        (SDXL | {"in_channels": 9}, 1280),
    ],
    ids=["SD 1.5", "SD 1.5 inpainting", "SD 2.1", "SDXL", "SDXL inpainting"],
)
def test_a_unet(config: dict[str, Any], pooled: int | None) -> None:
    with torch.device("meta"):
        weights = UNet2DConditionModel(**config).state_dict()
    published = {key_mapping.unet_name(key, weights, layers=2): weights[key] for key in weights}
    assert len(published) == len(weights)
    assert published["input_blocks.1.0.in_layers.0.weight"].shape == (320,)
    found = infer_config.unet_config(published, pooled=pooled)
    assert _tuples(found).items() >= (config | {"transformer_layers_per_block": _depths(config)}).items()
    with torch.device("meta"):
        rebuilt = UNet2DConditionModel.from_config(found).state_dict()
    assert _sizes(rebuilt) == _sizes(weights)


def test_a_vae() -> None:
    with torch.device("meta"):
        weights = AutoencoderKL(**VAE).state_dict()
    published = {key_mapping.vae_name(key, levels=4): weights[key] for key in weights}
    # names as they are in every published file
    assert {"decoder.up.3.upsample.conv.weight", "encoder.mid.attn_1.proj_out.weight"} <= published.keys()
    assert published["decoder.up.0.block.0.nin_shortcut.weight"].shape == (128, 256, 1, 1)
    found = _tuples(infer_config.vae_config(published))
    assert found == VAE | {"use_quant_conv": True, "use_post_quant_conv": True}


def test_clips_text_model() -> None:
    with torch.device("meta"):
        weights = CLIPTextModel(CLIPTextConfig(**CLIP_L)).state_dict()
    published = {f"text_model.{key}": value for key, value in weights.items()}
    assert infer_config.clip_config(published) == CLIP_L


def test_open_clips_text_model() -> None:
    with torch.device("meta"):
        weights = CLIPTextModelWithProjection(CLIPTextConfig(**OPEN_CLIP_G)).state_dict()
    published = {key_mapping.open_clip_name(key): weights[key] for key in weights}
    assert "transformer.resblocks.31.attn.in_proj_weight" in published
    assert infer_config.open_clip_config(published) == OPEN_CLIP_G


@pytest.mark.parametrize(
    "config", [SD3, SD35_LARGE, SD35_MEDIUM], ids=["3 medium", "3.5 large", "3.5 medium"]
)
def test_sd3s_transformer(config: dict[str, Any]) -> None:
    with torch.device("meta"):
        weights = SD3Transformer2DModel(**config).state_dict()
    published = sd3_original(weights)
    assert {"joint_blocks.0.x_block.attn.qkv.weight", "pos_embed", "x_embedder.proj.bias"} <= published.keys()
    assert infer_config_flow.sd3_config(published) == config


@pytest.mark.parametrize("guidance", [True, False], ids=["dev", "schnell"])
def test_fluxs_transformer(guidance: bool) -> None:
    config = FLUX | {"guidance_embeds": guidance}
    with torch.device("meta"):
        weights = FluxTransformer2DModel(**config).state_dict()
    published = flux_original(weights)
    assert published["single_blocks.37.linear1.weight"].shape == (3 * 3072 + 12288, 3072)
    assert infer_config_flow.flux_config(published) == config


def test_t5s_encoder() -> None:
    with torch.device("meta"):
        weights = T5EncoderModel(T5Config(**T5_XXL)).state_dict()
    assert infer_config_flow.t5_config(weights) == T5_XXL


def _tuples(config: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}


def _depths(config: dict[str, Any]) -> tuple[int, ...]:
    depths: tuple[int, ...] = config.get("transformer_layers_per_block", (1, 1, 1, 1))
    return depths


def _sizes(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in weights.items()}
