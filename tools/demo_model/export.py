"""Writes the trained parts as a checkpoint in the diffusers layout, in half precision, with a model card."""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from transformers import CLIPTokenizer

from tools.demo_model import captions, denoiser, tokens, vae

SHIPPED = Path(__file__).parents[2] / "worker/img2img_worker/models/demo"
_CARD = Path(__file__).with_name("card.md")
_CLASSES = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "scheduler": ("diffusers", "DDIMScheduler"),
}


def write(folder: Path, *, autoencoder: Any, unet: Any, text: Any) -> None:
    """Write a checkpoint folder, replacing an old one. The modules are converted to half precision."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, module in (("vae", autoencoder), ("unet", unet), ("text_encoder", text)):
        module.to(torch.float16).save_pretrained(folder / name, safe_serialization=True)
    tokens.write_tokenizer(folder / "tokenizer", captions.words())
    DDIMScheduler(**denoiser.SCHEDULE).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        **_CLASSES,
        "safety_checker": None,
        "feature_extractor": None,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", "utf-8")
    shutil.copyfile(_CARD, folder / "README.md")


def size(folder: Path) -> int:
    """Bytes of all files of a checkpoint."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description="Export the checkpoint `demo`.")
    parser.add_argument("vae", type=Path, help="training state of the autoencoder")
    parser.add_argument("denoiser", type=Path, help="training state of the denoiser")
    parser.add_argument("folder", type=Path, nargs="?", default=SHIPPED)
    options = parser.parse_args()
    tokenizer = CLIPTokenizer.from_pretrained(options.denoiser.parent / "tokenizer")
    unet, text = denoiser.trained(options.denoiser, tokenizer)
    write(options.folder, autoencoder=vae.trained(options.vae), unet=unet, text=text)
    print(f"{options.folder}: {size(options.folder) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
