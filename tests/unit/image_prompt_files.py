"""Tiny IP-Adapters and their CLIP image encoders, with seeded weights, in the published layouts."""

from pathlib import Path
from typing import Literal

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

Kind = Literal["plain", "plus", "full"]
Parts = dict[str, dict[str, Tensor]]

#: widths of CLIP's patches and of its embeddings
WIDTH, EMBEDDING = 32, 24
_HEADS, _SIDE, _PATCH = 16, 224, 56


def clip_vision(seed: int, width: int = WIDTH) -> CLIPVisionModelWithProjection:
    """A CLIP image encoder of three layers over 16 patches."""
    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=_HEADS,
        image_size=_SIDE,
        patch_size=_PATCH,
        projection_dim=EMBEDDING,
        hidden_act="gelu",
    )
    return CLIPVisionModelWithProjection(config).eval()


def write_clip_vision(model: CLIPVisionModelWithProjection, path: Path) -> Path:
    """Write it as one file, as A1111's extension has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: each.contiguous() for name, each in model.state_dict().items()}, path)
    return path


def image_prompt(checkpoint: Path, seed: int, kind: Kind = "plain", n_tokens: int = 4) -> Parts:
    """An IP-Adapter for the UNet of a checkpoint in diffusers' layout, in its authors' two parts."""
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet", low_cpu_mem_usage=False)
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, scale: float = 0.2) -> Tensor:
        return scale * torch.randn(*shape, generator=generator)

    names = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    layers = {}
    for number, name in enumerate(names):
        weight = unet.get_submodule(name.removesuffix(".processor")).to_k.weight
        for part in ("k", "v"):
            layers[f"{2 * number + 1}.to_{part}_ip.weight"] = random(*weight.shape, scale=0.5)
    width = unet.config.cross_attention_dim
    if kind == "plain":
        projection = {
            "proj.weight": random(n_tokens * width, EMBEDDING),
            "proj.bias": random(n_tokens * width),
            "norm.weight": 1 + random(width),
            "norm.bias": random(width),
        }
    elif kind == "full":
        projection = {
            "proj.0.weight": random(WIDTH, WIDTH),
            "proj.0.bias": random(WIDTH),
            "proj.2.weight": random(width, WIDTH),
            "proj.2.bias": random(width),
            "proj.3.weight": 1 + random(width),
            "proj.3.bias": random(width),
        }
    else:
        inner = 2 * 64
        projection = {
            "latents": random(1, n_tokens, width, scale=1.0),
            "proj_in.weight": random(width, WIDTH),
            "proj_in.bias": random(width),
            "proj_out.weight": random(width, width),
            "proj_out.bias": random(width),
            "norm_out.weight": 1 + random(width),
            "norm_out.bias": random(width),
        }
        for number in range(4):
            at = f"layers.{number}"
            for norm in ("0.norm1", "0.norm2", "1.0"):
                projection |= {f"{at}.{norm}.weight": 1 + random(width), f"{at}.{norm}.bias": random(width)}
            projection |= {
                f"{at}.0.to_q.weight": random(inner, width),
                f"{at}.0.to_kv.weight": random(2 * inner, width),
                f"{at}.0.to_out.weight": random(width, inner),
                f"{at}.1.1.weight": random(4 * width, width),
                f"{at}.1.3.weight": random(width, 4 * width),
            }
    return {"image_proj": projection, "ip_adapter": layers}


def write_safetensors(parts: Parts, path: Path) -> Path:
    """Write it as one file, with the names of the two parts as prefixes."""
    save_file(
        {f"{part}.{name}": each.contiguous() for part, own in parts.items() for name, each in own.items()},
        path,
    )
    return path


def write_pickle(parts: Parts, path: Path) -> Path:
    """Write it as its authors' .bin file: a dictionary of the two parts."""
    torch.save(parts, path)
    return path


def write_diffusers(unet: UNet2DConditionModel, path: Path) -> Path:
    """Write it under the names of a diffusers UNet that has loaded it."""
    save_file(
        {
            name: each.contiguous()
            for name, each in unet.state_dict().items()
            if name.startswith("encoder_hid_proj.") or "_ip." in name
        },
        path,
    )
    return path
