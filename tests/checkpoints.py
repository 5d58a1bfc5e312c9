"""Tiny checkpoints with seeded weights, in the layout that diffusers saves: real networks, small sizes.

What the sizes keep of the real thing is what its single-file layout takes for granted: 32 groups in every
norm, 64 dimensions to a head of a text encoder, a VAE that makes one latent cell of 8 × 8 pixels.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from img2img_worker.models.tokenizer import bpe_tokenizer

#: merges of a small vocabulary, so that some words are one token and others several
MERGES = [
    "t h",
    "th e</w>",
    "c a",
    "ca t</w>",
    "d o",
    "do g</w>",
    "i n</w>",
    "o f</w>",
    "p h",
    "r e",
    "re d</w>",
]
TOKENS = 2 * 256 + len(MERGES) + 2
WIDTH = 64

Network = TypeVar("Network", bound=nn.Module)


def cached(factory: pytest.TempPathFactory, build: Callable[[Path], Path]) -> Path:
    """What `build` makes, made once in a test session: ``cached(tmp_path_factory, sd1)``."""
    folder = factory.getbasetemp() / "checkpoints" / build.__name__
    return folder if folder.exists() else build(folder)


def sd1(folder: Path, *, seed: int = 1) -> Path:
    """Stable Diffusion 1.x, some 0.6 million weights; returns `folder`."""
    unet = sd1_unet(seed)
    return _save(folder, kind="StableDiffusionPipeline", unet=unet, prediction="epsilon", seed=seed)


def sd1_unet(seed: int, *, in_channels: int = 4) -> UNet2DConditionModel:
    """Two levels, one of them with attention over the prompt, 8 heads each."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
        sample_size=8,
    )
    return _strengthen(unet, {"conv_out.weight": 4, "to_out.0.weight": 4})


def vae(seed: int) -> AutoencoderKL:
    """Factor 8, 32 channels throughout."""
    torch.manual_seed(seed)
    network = AutoencoderKL(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=1,
        sample_size=64,
    )
    return _strengthen(network, {"encoder.conv_out.weight": 24, "decoder.conv_out.weight": 1.3})


def clip(seed: int, *, layers: int = 2) -> CLIPTextModel:
    """A text encoder of CLIP's kind over `MERGES`."""
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=TOKENS,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=1,
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        projection_dim=WIDTH,
        bos_token_id=TOKENS - 2,
        eos_token_id=TOKENS - 1,
        pad_token_id=TOKENS - 1,
    )
    return CLIPTextModel(config)


def _strengthen(network: Network, gains: dict[str, float]) -> Network:
    """Fresh networks answer with a nearly flat grey; stronger weights make pictures and prompts matter."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            for ending, gain in gains.items():
                if name.endswith(ending):
                    weight.mul_(gain)
    return network.eval()


def _save(folder: Path, *, kind: str, unet: UNet2DConditionModel, prediction: str, seed: int) -> Path:
    unet.save_pretrained(folder / "unet")
    vae(seed + 1).save_pretrained(folder / "vae")
    clip(seed + 2).save_pretrained(folder / "text_encoder")
    bpe_tokenizer(MERGES).save_pretrained(folder / "tokenizer")
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": kind,
        "_diffusers_version": "0.35.0",
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
