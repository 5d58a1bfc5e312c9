"""From a name on a disk to a model that renders."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from img2img_shared.errors import Refused
from img2img_shared.settings import Settings
from img2img_worker.models import catalog
from img2img_worker.models.betas import alphas_cumprod
from img2img_worker.models.family import Family, Prediction
from img2img_worker.models.folder import read_folder
from img2img_worker.models.parts import Parts
from img2img_worker.models.stable_diffusion import StableDiffusion
from img2img_worker.models.weights import assemble
from img2img_worker.sampling.levels import NoiseLevels

_PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v"}


def load(model: str | Path, settings: Settings) -> Family:
    """The checkpoint that a worker with these settings serves as `model` (a name or a path).

    Raises:
        Refused: as `open_checkpoint`; an unknown name; a device that torch does not have.
    """
    device = find_device(settings.device)
    dtype = getattr(torch, settings.dtype or ("float32" if device.type == "cpu" else "float16"))
    path = catalog.find_model(model, settings.models_dir)
    return open_checkpoint(path, device=device, dtype=dtype, allow_pickles=settings.allow_pickles)


def model_hash(model: str | Path, settings: Settings) -> str | None:
    """A1111's "Model hash" of what `load` would load; None for a folder."""
    return catalog.model_hash(catalog.find_model(model, settings.models_dir))


def open_checkpoint(
    path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    vae_dtype: torch.dtype = torch.float32,
    allow_pickles: bool = False,
) -> Family:
    """The checkpoint at `path`: a folder in the diffusers layout. Nothing is asked of any hub.

    Args:
        vae_dtype: Stable Diffusion's VAEs overflow in float16, so theirs is its own.

    Raises:
        Refused: it is not there, not a checkpoint, of an unknown family, incomplete or broken.
    """
    path = Path(path)
    if not path.is_dir():
        raise Refused("model", str(path), "a checkpoint folder")
    parts = read_folder(path, allow_pickles=allow_pickles)
    return _build(parts, device=torch.device(device), dtype=dtype, vae_dtype=vae_dtype)


def find_device(name: str) -> torch.device:
    """torch's device of that name; "auto" is the first GPU, else the CPU.

    Raises:
        Refused: torch has no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        has = ", ".join(["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))])
        raise Refused("device", name, f"auto, {has}") from None
    return device


def _build(parts: Parts, *, device: torch.device, dtype: torch.dtype, vae_dtype: torch.dtype) -> Family:
    where: dict[str, Any] = {"device": device, "source": parts.source}
    (text,) = parts.text_encoders
    prediction = parts.scheduler.get("prediction_type", "epsilon")
    if prediction not in _PREDICTIONS:
        raise Refused("model: prediction_type", prediction, ", ".join(_PREDICTIONS))
    return StableDiffusion(
        name="SD 1.x",
        device=device,
        dtype=dtype,
        levels=NoiseLevels.from_alphas_cumprod(alphas_cumprod(parts.scheduler)),
        prediction=_PREDICTIONS[prediction],
        unet=assemble(
            lambda: UNet2DConditionModel.from_config(dict(parts.unet.config)),
            parts.unet.weights,
            dtype=dtype,
            **where,
        ),
        vae=assemble(
            lambda: AutoencoderKL.from_config(dict(parts.vae.config)),
            parts.vae.weights,
            dtype=vae_dtype,
            **where,
        ),
        tokenizer=parts.tokenizers[0],
        text_model=assemble(
            lambda: CLIPTextModel(CLIPTextConfig.from_dict(dict(text.config))),
            text.weights,
            dtype=dtype,
            **where,
        ),
    )
