"""Converts SD 3 and Flux in the diffusers layout to one file in the original layout, like published ones."""

import re
import shutil
from collections import defaultdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from img2img_worker.models.checkpoints import key_mapping as original
from img2img_worker.models.checkpoints.key_mapping_flux import flux_name

Weights = dict[str, Tensor]

#: names in SD 3 outside of its blocks
_SD3_ENDS = {
    "pos_embed.pos_embed": "pos_embed",
    "pos_embed.proj.": "x_embedder.proj.",
    "time_text_embed.timestep_embedder.linear_1.": "t_embedder.mlp.0.",
    "time_text_embed.timestep_embedder.linear_2.": "t_embedder.mlp.2.",
    "time_text_embed.text_embedder.linear_1.": "y_embedder.mlp.0.",
    "time_text_embed.text_embedder.linear_2.": "y_embedder.mlp.2.",
    "context_embedder.": "context_embedder.",
    "norm_out.linear.": "final_layer.adaLN_modulation.1.",
    "proj_out.": "final_layer.linear.",
}
#: names inside its blocks; query, key and value in the order in which they are joined
_SD3_BLOCK = {
    "norm1_context.linear.": "context_block.adaLN_modulation.1.",
    "norm1.linear.": "x_block.adaLN_modulation.1.",
    "attn.to_q.": "x_block.attn.qkv.",
    "attn.to_k.": "x_block.attn.qkv.",
    "attn.to_v.": "x_block.attn.qkv.",
    "attn.add_q_proj.": "context_block.attn.qkv.",
    "attn.add_k_proj.": "context_block.attn.qkv.",
    "attn.add_v_proj.": "context_block.attn.qkv.",
    "attn2.to_q.": "x_block.attn2.qkv.",
    "attn2.to_k.": "x_block.attn2.qkv.",
    "attn2.to_v.": "x_block.attn2.qkv.",
    "attn.norm_q.": "x_block.attn.ln_q.",
    "attn.norm_k.": "x_block.attn.ln_k.",
    "attn.norm_added_q.": "context_block.attn.ln_q.",
    "attn.norm_added_k.": "context_block.attn.ln_k.",
    "attn2.norm_q.": "x_block.attn2.ln_q.",
    "attn2.norm_k.": "x_block.attn2.ln_k.",
    "attn.to_out.0.": "x_block.attn.proj.",
    "attn.to_add_out.": "context_block.attn.proj.",
    "attn2.to_out.0.": "x_block.attn2.proj.",
    "ff.net.0.proj.": "x_block.mlp.fc1.",
    "ff.net.2.": "x_block.mlp.fc2.",
    "ff_context.net.0.proj.": "context_block.mlp.fc1.",
    "ff_context.net.2.": "context_block.mlp.fc2.",
}


def write_original_flow(folder: Path, path: Path, *, vae: str = "first_stage_model.") -> Path:
    """The checkpoint in `folder` as one ``.safetensors`` file; its tokenizers' folders are put beside it.

    Args:
        vae: how the VAE's names begin.
    """
    transformer = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    is_flux = any(key.startswith("single_transformer_blocks.") for key in transformer)
    named = flux_original(transformer) if is_flux else sd3_original(transformer)
    weights = {f"model.diffusion_model.{key}": value for key, value in named.items()}
    for key, value in load_file(folder / "vae" / "diffusion_pytorch_model.safetensors").items():
        square = ".attentions." in key and value.ndim == 2
        name = f"{vae}{original.vae_name(key, levels=4)}"
        weights[name] = value[:, :, None, None] if square else value
    texts = ["clip_l", "t5xxl"] if is_flux else ["clip_l", "clip_g", "t5xxl"]
    for number, text in zip(("", "_2", "_3"), texts, strict=False):
        file = folder / f"text_encoder{number}" / "model.safetensors"
        if file.exists():
            below = f"text_encoders.{text}.transformer."
            wrapped = "" if text == "t5xxl" else "text_model."
            weights |= {
                below + (key if key.startswith(("text_", "shared.")) or not wrapped else wrapped + key): value
                for key, value in load_file(file).items()
            }
        tokenizer = folder / f"tokenizer{number}"
        if text == "t5xxl" and tokenizer.exists():
            shutil.copytree(tokenizer, path.parent / "tokenizer_t5", dirs_exist_ok=True)
    shutil.copytree(folder / "tokenizer", path.parent / "tokenizer", dirs_exist_ok=True)
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    return path


def flux_original(weights: Weights) -> Weights:
    """Flux's transformer under its authors' names."""
    parts: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for key, value in weights.items():
        name, part = flux_name(key)
        parts[name][part or 0] = _swapped(value) if key.startswith("norm_out.") else value
    return {name: torch.cat([own[part] for part in sorted(own)]) for name, own in parts.items()}


def sd3_original(weights: Weights) -> Weights:
    """SD 3's transformer under Stability's names."""
    last = max(int(key.split(".")[1]) for key in weights if key.startswith("transformer_blocks."))
    parts: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for key, value in weights.items():
        block = re.fullmatch(r"transformer_blocks\.(\d+)\.(.+)", key)
        if block is None:
            ours = next(ours for ours in _SD3_ENDS if key.startswith(ours))
            name, place = key.replace(ours, _SD3_ENDS[ours], 1), 0
        else:
            ours = next(ours for ours in _SD3_BLOCK if block[2].startswith(ours))
            name = f"joint_blocks.{block[1]}.{block[2].replace(ours, _SD3_BLOCK[ours], 1)}"
            place = list(_SD3_BLOCK).index(ours)
        is_last = key.startswith((f"transformer_blocks.{last}.norm1_context.", "norm_out."))
        parts[name][place] = _swapped(value) if is_last else value
    return {name: torch.cat([own[place] for place in sorted(own)]) for name, own in parts.items()}


def _swapped(halves: Tensor) -> Tensor:
    return torch.cat(halves.chunk(2)[::-1])
