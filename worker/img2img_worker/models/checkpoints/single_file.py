"""Reads a checkpoint in one file, in the original layout, without a configuration or a download."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_worker.models.checkpoints import infer_config, key_mapping
from img2img_worker.models.checkpoints.beside import config_file, described, heads_of, scheduler_of
from img2img_worker.models.checkpoints.infer_config import Weights
from img2img_worker.models.checkpoints.key_mapping_parts import (
    below,
    network_keys,
    tokenizer_of,
    vae_component,
    weight,
)
from img2img_worker.models.checkpoints.mapped import MappedFiles
from img2img_worker.models.checkpoints.parts import UNET2D, CheckpointParts, Component
from img2img_worker.models.checkpoints.quantized import unscaled
from img2img_worker.models.checkpoints.single_file_flow import VAES, is_flow, read_flow
from img2img_worker.models.checkpoints.tensors import Tensors
from img2img_worker.models.checkpoints.weights import read_weights
from img2img_worker.models.prompts.clip_text import ClipText, ClipTextConfig
from img2img_worker.models.prompts.tokenizer import OPEN_CLIP_PAD

#: the prefix of each network's names
UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP, OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
XL_CLIP, XL_OPEN_CLIP = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
XL_REFINER = "conditioner.embedders.0.model."

TURBO = "conditioner.embedders.0."

#: a prediction type that the file does not tell
UNKNOWN = "unknown"

#: the tensors by which Playground 2.5 (statistics of its latents) and CosXL (its sigmas) are known
PLAYGROUND = {"edm_mean", "edm_std"}
COSXL, COSXL_LEAST = "edm_vpred.sigma_max", "edm_vpred.sigma_min"
_MARKERS: dict[str, dict[str, Any]] = {
    "v_pred": {"prediction_type": "v_prediction"},
    "ztsnr": {"rescale_betas_zero_snr": True},
}

#: prefixes by which other kinds of models are known
_OTHERS = {
    "depth_model.": "a depth-to-image model",
    "embedder.": "an unCLIP model",
    "cond_stage_model.roberta.": "AltDiffusion",
    "lora_": "a LoRA",
}


def read_single_file(path: Path, *, vae: Path | None = None, allow_pickles: bool = False) -> CheckpointParts:
    """The parts in one file; configurations are inferred from the weights' shapes.

    A ``NAME.yaml`` beside the file overrides some of that (see `beside`). CLIP's vocabulary ships with this
    package; any other one has to be in a folder ``tokenizer`` beside the file, T5's in ``tokenizer_t5``.

    Args:
        vae: a file whose VAE replaces the checkpoint's own.

    Raises:
        Refused: it is no checkpoint of a known kind, or an incomplete one.
    """
    files = MappedFiles()
    read = unscaled(read_weights(path, allow_pickles=allow_pickles, files=files), path)
    if vae is not None:
        read = {key: value for key, value in read.items() if not key.startswith(VAES)}
        # only tensors are read: no code in a pickle runs
        own = unscaled(read_weights(vae, allow_pickles=True, files=files), vae)
        read |= {f"{VAE}{key.removeprefix(VAE)}": value for key, value in own.items()}
    weights = Tensors(_turbo_as_2x(read))
    for prefix, kind in _OTHERS.items():
        if any(key.startswith(prefix) for key in weights):
            raise Refused("model", str(path), f"this is {kind}; use a Stable Diffusion or Flux checkpoint")
    try:
        parts = read_flow(weights, path) if is_flow(weights) else _parts(weights, path)
    except KeyError as missing:
        reason = f"it lacks {missing.args[0]}; use a complete checkpoint in the original layout"
        raise Refused("model", str(path), reason) from None
    weights.refuse_left(path)
    return replace(parts, files=files)


def _parts(weights: Tensors, path: Path) -> CheckpointParts:
    params = described(path)
    is_base = any(key.startswith(XL_OPEN_CLIP) for key in weights)
    is_refiner = any(key.startswith(XL_REFINER) for key in weights)
    is_2 = any(key.startswith(OPEN_CLIP) for key in weights)
    encoders: tuple[Component, ...]
    pooled, sizes = None, infer_config.SIZES
    if is_base:
        second = _open_clip(below(weights, XL_OPEN_CLIP), projects=True)
        encoders = (_clip(below(weights, XL_CLIP)), second)
        pooled = int(second.config["projection_dim"])
    elif is_refiner:
        encoders = (_open_clip(below(weights, XL_REFINER), projects=True),)
        pooled, sizes = int(encoders[0].config["projection_dim"]), infer_config.REFINER_SIZES
    else:
        encoders = (_open_clip(below(weights, OPEN_CLIP)) if is_2 else _clip(below(weights, CLIP)),)
    is_xl, unet = is_base or is_refiner, below(weights, UNET)
    config = infer_config.unet_config(unet, pooled=pooled, sizes=sizes)
    return CheckpointParts(
        source=str(path),
        config_file=config_file(path),
        denoiser=_unet(unet, config, params, path),
        vae=vae_component(weights, VAE, **_latent_scale(weights, is_xl=is_xl) | _described_scale(params)),
        text_encoders=encoders,
        tokenizers=tuple(tokenizer_of(encoder, path) for encoder in encoders),
        scheduler=_scheduler(weights, is_2=is_2, is_xl=is_xl) | scheduler_of(params, path),
    )


def _turbo_as_2x(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename SD Turbo's text encoder: it is a 2.x model's, but has the name of a refiner's."""
    if f"{TURBO}model.ln_final.weight" not in weights or f"{UNET}label_emb.0.0.weight" in weights:
        return weights
    return {
        f"cond_stage_model.{key.removeprefix(TURBO)}" if key.startswith(TURBO) else key: value
        for key, value in weights.items()
    }


def _unet(weights: Weights, config: dict[str, Any], params: dict[str, Any], path: Path) -> Component:
    if heads := heads_of(params, config["block_out_channels"], path):
        config["attention_head_dim"] = heads  # diffusers' name for their number
    keys = network_keys(lambda: UNet2DConditionModel.from_config(config))
    layers = config["layers_per_block"]
    names = {key: key_mapping.unet_name(key, keys, layers=layers) for key in keys}
    found = {key: weight(weights, UNET, names[key]) for key in keys}
    return Component(config=config | {"_class_name": UNET2D}, weights=found)


def _clip(weights: Weights) -> Component:
    # the oldest files lack the prefix `text_model.`
    text = {
        f"text_model.{key.removeprefix('text_model.')}": weights[key]
        for key in weights
        if key.removeprefix("text_model.").startswith(("embeddings.", "encoder.", "final_layer_norm."))
    }
    return Component(config=infer_config.clip_config(text), weights=text)


def _open_clip(weights: Tensors, *, projects: bool = False) -> Component:
    """OpenCLIP; SD 2.x takes the output of the last layer but one, SDXL's pooled embedding needs them all."""
    config = infer_config.open_clip_config(weights)
    if not projects:
        config["num_hidden_layers"] -= 1
        unread = f"transformer.resblocks.{config['num_hidden_layers']}."
        weights.take(key for key in weights if key.startswith(unread))
    keys = network_keys(lambda: ClipText(ClipTextConfig.of(config), projects=projects))
    found = {key: weight(weights, "", key_mapping.open_clip_name(key)) for key in keys}
    parts = {key: key_mapping.open_clip_tensor(key, value) for key, value in found.items()}
    return Component(config=config | {"pad": OPEN_CLIP_PAD}, weights=parts)


def _latent_scale(weights: Weights, *, is_xl: bool) -> dict[str, Any]:
    if is_xl and weights.keys() >= PLAYGROUND:
        mean, std = (weights[key].float().flatten().tolist() for key in sorted(PLAYGROUND))
        return {"scaling_factor": 0.5, "latents_mean": mean, "latents_std": std}
    return {"scaling_factor": 0.13025 if is_xl else 0.18215}


def _described_scale(params: dict[str, Any]) -> dict[str, Any]:
    return {"scaling_factor": params["scale_factor"]} if "scale_factor" in params else {}


def _scheduler(weights: Weights, *, is_2: bool, is_xl: bool) -> dict[str, Any]:
    """What the file tells about its noise levels (abar) and its prediction.

    2.x files do not tell the prediction: a call of the UNet does, as in A1111. A1111 knows the markers
    `v_pred` and `ztsnr`; those of Karras et al.'s noise levels (Playground 2.5, CosXL) are read as Forge and
    ComfyUI do.
    """
    config: dict[str, Any] = {"prediction_type": UNKNOWN if is_2 else "epsilon"}
    if is_xl and weights.keys() >= PLAYGROUND:
        return config | {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5}
    if is_xl and COSXL in weights:
        least = float(weights[COSXL_LEAST]) if COSXL_LEAST in weights else 0.002
        found = {"sigma_min": least, "sigma_max": float(weights[COSXL]), "sigma_data": 1.0}
        return found | {"prediction_type": "v_prediction"}
    if "alphas_cumprod" in weights:
        config["alphas_cumprod"] = weights["alphas_cumprod"].float().numpy()
    for marker, says in _MARKERS.items():
        if marker in weights:
            config |= says
            weights[marker]
    return config
