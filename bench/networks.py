"""Checkpoints of published sizes with seeded weights: the cost does not depend on the weights' values."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from img2img_worker.models.prompts.tokenizer import published_merges
from tests.checkpoints import pipeline_tokenizer, sd1
from tests.unit import control_files

#: name -> side in pixels that the model is made for. The narrow one has SD 1.5's text encoder and VAE, and a
#: UNet that is as wide throughout as SD 1.5's first level: the smallest that ComfyUI recognizes as a 1.x
SIZES = {"tiny": 64, "narrow": 64, "sd15": 512, "sdxl": 1024}


def save(size: str, folder: Path, dtype: torch.dtype, device: str = "cpu") -> Path:
    """A checkpoint of that size in the diffusers layout; returns `folder`.

    Args:
        device: draws the weights; a CPU takes a minute for those of SDXL.
    """
    if size == "tiny":
        return sd1(folder)
    torch.manual_seed(1)
    with torch.device(device):
        pipeline = (
            _sdxl() if size == "sdxl" else _sd15((320,) * 4 if size == "narrow" else (320, 640, 1280, 1280))
        )
    pipeline.to(dtype).save_pretrained(folder)
    return folder


def save_control_net(checkpoint: Path, path: Path, dtype: torch.dtype) -> ControlNetModel:
    """A ControlNet for the UNet of a checkpoint in the diffusers layout, as one file at `path`.

    As a fresh one has it, what it adds is zero: it costs what any costs, and cannot overflow.
    """
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet", low_cpu_mem_usage=False)
    network: ControlNetModel = ControlNetModel.from_unet(unet).to(dtype).eval()
    control_files.write_original(network, path)
    return network


def _sd15(channels: Sequence[int]) -> Any:
    return StableDiffusionImg2ImgPipeline(
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768, block_out_channels=channels),
        vae=_vae(0.18215),
        text_encoder=CLIPTextModel(_clip(768, 12, 12)),
        tokenizer=pipeline_tokenizer(published_merges()),
        scheduler=_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl() -> Any:
    return StableDiffusionXLImg2ImgPipeline(
        unet=UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ),
        vae=_vae(0.13025),
        text_encoder=CLIPTextModel(_clip(768, 12, 12)),
        text_encoder_2=CLIPTextModelWithProjection(_clip(1280, 32, 20, act="gelu")),
        tokenizer=pipeline_tokenizer(published_merges()),
        tokenizer_2=pipeline_tokenizer(published_merges(), pad="!"),
        scheduler=_scheduler(),
    )


def _vae(scaling_factor: float) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=512,
        scaling_factor=scaling_factor,
    )


def _clip(width: int, layers: int, heads: int, act: str = "quick_gelu") -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_act=act,
        projection_dim=width,
        bos_token_id=49406,
        eos_token_id=49407,
    )


def _scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
