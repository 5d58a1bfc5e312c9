"""Reads SD 3 and Flux from one file with transformer, text encoders and VAE (ComfyUI's, Stability's)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers

from img2img_shared.errors import Refused
from img2img_worker.models.checkpoints import infer_config, infer_config_flow
from img2img_worker.models.checkpoints.infer_config import Weights
from img2img_worker.models.checkpoints.key_mapping_flux import flux_name, flux_tensor
from img2img_worker.models.checkpoints.key_mapping_parts import (
    network_keys,
    tokenizer_of,
    vae_component,
    weight,
)
from img2img_worker.models.checkpoints.parts import FLUX, SD3, CheckpointParts, Component
from img2img_worker.models.checkpoints.tensors import Tensors
from img2img_worker.models.prompts.tokenizer import read_t5_tokenizer

TRANSFORMER, TEXTS = "model.diffusion_model.", "text_encoders."
CLIP_L, CLIP_G, T5 = (f"{TEXTS}{name}.transformer." for name in ("clip_l", "clip_g", "t5xxl"))
#: prefixes of the VAE: Stability's and ComfyUI's
VAES = ("first_stage_model.", "vae.")
#: the blocks by which a transformer is known
BLOCKS = {"joint_blocks.": "Stable Diffusion 3", "double_blocks.": "Flux"}
#: the folder beside a file that holds T5's vocabulary
T5_FOLDER = "tokenizer_t5"

_SD3_SCALES = {"scaling_factor": 1.5305, "shift_factor": 0.0609}
_FLUX_SCALES = {"scaling_factor": 0.3611, "shift_factor": 0.1159}
_SD3_SCHEDULER = {"shift": 3.0}
_SCHNELL_SCHEDULER = {"shift": 1.0}
_DEV_SCHEDULER = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}


def is_flow(weights: Weights) -> bool:
    """Whether a file holds SD 3's or Flux's transformer."""
    return any(key.removeprefix(TRANSFORMER).startswith(tuple(BLOCKS)) for key in weights)


def read_flow(weights: Tensors, path: Path) -> CheckpointParts:
    """The parts in a file; T5's vocabulary is read from the folder `tokenizer_t5` beside it.

    Raises:
        Refused: the text encoders or the VAE are missing, or T5's vocabulary is.
        KeyError: a weight is missing.
    """
    kind = next(
        kind
        for block, kind in BLOCKS.items()
        if any(key.removeprefix(TRANSFORMER).startswith(block) for key in weights)
    )
    is_flux = kind == BLOCKS["double_blocks."]
    _refuse_parts(weights, path, kind, (CLIP_L, T5) if is_flux else (CLIP_L, CLIP_G))
    transformer = weights.below(TRANSFORMER)
    vae = next(prefix for prefix in VAES if any(key.startswith(prefix) for key in weights))
    has_t5 = any(key.startswith(T5) for key in weights)
    denoiser = _flux(transformer) if is_flux else _sd3(transformer)
    clips = [_clip(weights.below(CLIP_L), projects=not is_flux)]
    if not is_flux:
        clips.append(_open_clip(weights.below(CLIP_G)))
    return CheckpointParts(
        source=str(path),
        denoiser=denoiser,
        vae=vae_component(weights, vae, **(_FLUX_SCALES if is_flux else _SD3_SCALES)),
        text_encoders=tuple(clips),
        tokenizers=tuple(tokenizer_of(clip, path) for clip in clips),
        t5=_t5(weights.below(T5)) if has_t5 else None,
        t5_tokenizer=read_t5_tokenizer(path.parent / T5_FOLDER) if has_t5 else None,
        scheduler=_scheduler(denoiser.config, is_flux=is_flux),
    )


def _refuse_parts(weights: Weights, path: Path, kind: str, texts: tuple[str, ...]) -> None:
    wanted = [*((text,) for text in texts), VAES]
    missing = [
        f"{prefixes[0]}*" for prefixes in wanted if not any(key.startswith(prefixes) for key in weights)
    ]
    if missing:
        reason = (
            f"it lacks {', '.join(missing)}; use a diffusers folder of {kind}, or a file that holds these too"
        )
        raise Refused("model", str(path), reason)


def _scheduler(config: Mapping[str, Any], *, is_flux: bool) -> Mapping[str, Any]:
    if not is_flux:
        return _SD3_SCHEDULER
    return _DEV_SCHEDULER if config["guidance_embeds"] else _SCHNELL_SCHEDULER


def _sd3(weights: Tensors) -> Component:
    config = infer_config_flow.sd3_config(weights)
    left = weights.without_taking()
    converted = convert_sd3_transformer_checkpoint_to_diffusers(left)  # removes what it uses
    weights.take(key for key in weights if key not in left)
    return Component(config=config | {"_class_name": SD3}, weights=converted)


def _flux(weights: Weights) -> Component:
    config = infer_config_flow.flux_config(weights)
    width = config["num_attention_heads"] * config["attention_head_dim"]
    keys = network_keys(lambda: FluxTransformer2DModel.from_config(config))
    converted = {
        key: flux_tensor(key, weight(weights, TRANSFORMER, flux_name(key)[0]), width=width) for key in keys
    }
    return Component(config=config | {"_class_name": FLUX}, weights=converted)


def _clip(weights: Weights, *, projects: bool) -> Component:
    """CLIP-L; as in A1111, SD 3 takes its pooled state unprojected, here by an identity as its projection."""
    text = {key: weights[key] for key in weights if key.startswith("text_model.")}
    config = infer_config.clip_config(text)
    if projects:
        text["text_projection.weight"] = torch.eye(config["hidden_size"])
    return Component(config=config, weights=text)


def _open_clip(weights: Weights) -> Component:
    text = {key: weights[key] for key in weights if key.startswith(("text_model.", "text_projection."))}
    config = infer_config.clip_config(text) | {"hidden_act": "gelu", "pad": "!"}
    text.setdefault("text_projection.weight", torch.eye(config["hidden_size"]))
    return Component(config=config, weights=text)


def _t5(weights: Weights) -> Component:
    return Component(config=infer_config_flow.t5_config(weights), weights=dict(weights))
