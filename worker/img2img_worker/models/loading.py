"""From a name on a disk to a model that renders."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from img2img_shared.errors import Refused
from img2img_shared.settings import Settings
from img2img_worker.models import catalog
from img2img_worker.models.betas import alphas_cumprod
from img2img_worker.models.family import Family, Prediction
from img2img_worker.models.folder import read_folder
from img2img_worker.models.parts import Component, Parts
from img2img_worker.models.single_file import UNKNOWN, read_single_file
from img2img_worker.models.stable_diffusion import StableDiffusion
from img2img_worker.models.text import TextEncoder
from img2img_worker.models.weights import assemble
from img2img_worker.sampling.levels import NoiseLevels

_PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v"}
#: channels that a UNet takes beside the latent, and what it is for
_BESIDE = {0: "", 4: " edit", 5: " inpainting"}


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
    """The checkpoint at `path`: a folder in the diffusers layout, or a file in the original one.

    Nothing is asked of any hub, and nothing beside the file or folder is wanted.

    Args:
        vae_dtype: Stable Diffusion's VAEs overflow in float16, so theirs is its own.

    Raises:
        Refused: it is not there, not a checkpoint, of an unknown family, incomplete or broken.
    """
    path = Path(path)
    if not path.exists():
        raise Refused("model", str(path), "a checkpoint folder or a .safetensors file that exists")
    read = read_folder if path.is_dir() else read_single_file
    parts = read(path, allow_pickles=allow_pickles)
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
    unet, vae = parts.unet, parts.vae
    is_xl = len(parts.text_encoders) == 2
    network = assemble(
        lambda: UNet2DConditionModel.from_config(dict(unet.config)), unet.weights, dtype=dtype, **where
    )
    latent_channels = int(network.config.out_channels)
    beside = _BESIDE.get(network.config.in_channels - latent_channels)
    if beside is None:
        allowed = f"a UNet with {', '.join(str(latent_channels + more) for more in _BESIDE)} input channels"
        raise Refused("model", parts.source, f"{allowed}; this has {network.config.in_channels}")
    # A1111's `clip_skip` reaches 1.x only; 2.x ends with the layer that is meant, XL takes the last but one
    layer = 2 if is_xl else 1 if network.config.use_linear_projection else None
    series = "SDXL" if is_xl else "SD 2.x" if network.config.use_linear_projection else "SD 1.x"
    return StableDiffusion(
        name=series + beside,
        device=device,
        dtype=dtype,
        levels=NoiseLevels.from_alphas_cumprod(alphas_cumprod(parts.scheduler), is_sdxl=is_xl),
        prediction=_prediction(parts, network),
        unet=network,
        vae=assemble(
            lambda: AutoencoderKL.from_config(dict(vae.config)), vae.weights, dtype=vae_dtype, **where
        ),
        texts=tuple(
            _text_encoder(parts, index, layer=layer, dtype=dtype, **where) for index in range(1 + is_xl)
        ),
    )


def _text_encoder(
    parts: Parts, index: int, *, layer: int | None, dtype: torch.dtype, **where: Any
) -> TextEncoder:
    component = parts.text_encoders[index]
    model = assemble(
        partial(_text_model, component, projects=index == 1), component.weights, dtype=dtype, **where
    )
    return TextEncoder(tokenizer=parts.tokenizers[index], model=model, layer=layer, final_norm=layer != 2)


def _text_model(component: Component, *, projects: bool) -> nn.Module:
    config = CLIPTextConfig.from_dict(dict(component.config))
    model: nn.Module = CLIPTextModelWithProjection(config) if projects else CLIPTextModel(config)
    return model


def _prediction(parts: Parts, unet: Any) -> Prediction:
    kind = parts.scheduler.get("prediction_type", "epsilon")
    if kind == UNKNOWN:
        return "v" if _answers_velocity(unet) else "epsilon"
    if kind not in _PREDICTIONS:
        raise Refused("model: prediction_type", kind, ", ".join(_PREDICTIONS))
    return _PREDICTIONS[kind]


@torch.inference_mode()
def _answers_velocity(unet: Any) -> bool:
    """A1111's test of a 2.x file: at the last timestep, velocity is about -x0, far from the noise in x."""
    x = torch.full((1, unet.config.in_channels, 8, 8), 0.5, device=unet.device, dtype=unet.dtype)
    context = torch.full((1, 2, unet.config.cross_attention_dim), 0.5, device=unet.device, dtype=unet.dtype)
    answer = unet(x, torch.tensor([999.0], device=unet.device), encoder_hidden_states=context).sample
    return bool((answer - x[:, : answer.shape[1]]).mean() < -1)
