"""Converts a checkpoint in the diffusers layout to one file in the original layout, like published ones."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from img2img_worker.models.checkpoints import key_mapping as original

Weights = dict[str, Tensor]


def write_original(folder: Path, path: Path) -> Path:
    """The checkpoint in `folder` as one ``.safetensors`` file; its tokenizer's folder is put beside it."""
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    vae = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    layers = json.loads((folder / "unet" / "config.json").read_text())["layers_per_block"]
    weights = {
        f"model.diffusion_model.{original.unet_name(key, unet, layers=layers)}": unet[key] for key in unet
    }
    for key, value in vae.items():
        square = ".attentions." in key and value.ndim == 2
        weights[f"first_stage_model.{original.vae_name(key, levels=4)}"] = (
            value[:, :, None, None] if square else value
        )
    first, second = (folder / name / "model.safetensors" for name in ("text_encoder", "text_encoder_2"))
    text = load_file(first) if first.exists() else {}
    if not text:
        weights |= _open_clip(load_file(second), "conditioner.embedders.0.model.")
    elif second.exists():
        weights |= _clip(text, "conditioner.embedders.0.transformer.")
        weights |= _open_clip(load_file(second), "conditioner.embedders.1.model.")
    elif _is_open_clip(folder):
        weights |= _open_clip(text, "cond_stage_model.model.", unused_layer=True)
    else:
        weights |= _clip(text, "cond_stage_model.transformer.")
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    shutil.copytree(
        folder / ("tokenizer" if text else "tokenizer_2"), path.parent / "tokenizer", dirs_exist_ok=True
    )
    return path


def _is_open_clip(folder: Path) -> bool:
    config = json.loads((folder / "text_encoder" / "config.json").read_text())
    return bool(config["hidden_act"] == "gelu")


def _clip(weights: Weights, prefix: str) -> Weights:
    bare = {key.removeprefix("text_model."): value for key, value in weights.items()}
    # published files contain this counter, too, which is no weight
    counted = {f"{prefix}text_model.embeddings.position_ids": torch.arange(77)[None]}
    return counted | {f"{prefix}text_model.{key}": value for key, value in bare.items()}


def _open_clip(weights: Weights, prefix: str, *, unused_layer: bool = False) -> Weights:
    """OpenCLIP's names; query, key and value are one tensor. 2.x has a last layer that is not used."""
    weights = {key.removeprefix("text_model."): value for key, value in weights.items()}
    if unused_layer:
        layers = 1 + max(int(key.split(".")[2]) for key in weights if key.startswith("encoder.layers."))
        for key in [key for key in weights if key.startswith("encoder.layers.0.")]:
            weights[key.replace(".0.", f".{layers}.", 1)] = torch.full_like(weights[key], 7.0)
    written: Weights = {}
    for key, value in weights.items():
        if ".k_proj." in key or ".v_proj." in key:
            continue
        if ".q_proj." in key:
            value = torch.cat([weights[key.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"])
        if key == "text_projection.weight":
            value = value.T
        written[prefix + original.open_clip_name(key)] = value
    if "text_projection.weight" not in weights:
        size = weights["final_layer_norm.weight"].shape[0]
        written[f"{prefix}text_projection"] = torch.eye(size)
    return written | {f"{prefix}logit_scale": torch.tensor(4.6)}
