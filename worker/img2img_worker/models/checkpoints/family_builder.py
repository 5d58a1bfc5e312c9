"""Builds the family of a checkpoint from its parts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel

from img2img_shared.errors import Refused
from img2img_shared.suggestions import one_of
from img2img_worker.models.adapters.hypernetworks import Hypernetworks
from img2img_worker.models.checkpoints.network_builder import NetworkBuilder
from img2img_worker.models.checkpoints.noise_schedule import latent_scale, noise_levels
from img2img_worker.models.checkpoints.parts import FLUX, SD3, UNET2D, CheckpointParts
from img2img_worker.models.checkpoints.single_file import UNKNOWN
from img2img_worker.models.control.network_files import read_network
from img2img_worker.models.control.reading_flow import read_flux_network, read_sd3_network
from img2img_worker.models.families.family import Family, Prediction
from img2img_worker.models.families.flow import Shift
from img2img_worker.models.families.flux import Flux
from img2img_worker.models.families.patches import PATCH
from img2img_worker.models.families.row_by_row import answer_row_by_row
from img2img_worker.models.families.sd3 import StableDiffusion3
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from img2img_worker.models.families.unet import as_published
from img2img_worker.models.prompts.text_encoder import TextEncoder
from img2img_worker.models.prompts.textual_inversion import TextualInversions

_PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v"}
#: from the number of a UNet's input channels beside the latent to its purpose, for the family's name
_BESIDE = {0: "", 4: " edit", 5: " inpainting"}


def build_family(networks: NetworkBuilder, parts: CheckpointParts) -> Family:
    """The family that these parts are of.

    Raises:
        Refused: the family cannot be served, or weights do not fit their configuration.
    """
    return _FAMILIES[parts.denoiser.config["_class_name"]](networks, parts)


def _stable_diffusion(networks: NetworkBuilder, parts: CheckpointParts) -> StableDiffusion:
    unet = networks.denoiser(parts, UNet2DConditionModel)
    as_published(unet)
    if networks.device.type == "cpu" and networks.compiler is None:
        answer_row_by_row(unet)
    beside = _kind_by_channels(parts, unet)
    is_xl = unet.config.addition_embed_type == "text_time"
    is_refiner = is_xl and len(parts.text_encoders) == 1
    is_2 = unet.config.use_linear_projection and not is_xl
    texts = _text_encoders(networks, parts, is_xl=is_xl, is_2=is_2)
    loras = networks.loras(unet, texts)
    inversions = TextualInversions(
        networks.inversion_folders,
        texts[0].tokenize,
        [text.model.config.hidden_size for text in texts],
        loras.bundled,
    )
    texts = tuple(replace(text, inversions=inversions, part=index) for index, text in enumerate(texts))
    levels = noise_levels(parts.scheduler, is_sdxl=is_xl)
    prediction = _prediction(parts, unet, networks.dtype)
    vae, sign = networks.vae(parts, latent_scale(parts.scheduler)), 1
    if prediction == "epsilon" and not levels.has_whole_timesteps:
        # Karras et al.'s preconditioning: a velocity with the opposite sign
        prediction, sign = "v", -1
    return StableDiffusion(
        name=("SDXL refiner" if is_refiner else "SDXL" if is_xl else "SD 2.x" if is_2 else "SD 1.x") + beside,
        config_file=parts.config_file,
        device=networks.device,
        dtype=networks.dtype,
        noise_levels=levels,
        prediction=prediction,
        answer_sign=sign,
        unet=unet,
        vae=vae,
        vaes=networks.vaes(vae, "taesdxl" if is_xl else "taesd"),
        scales_edited=not levels.has_whole_timesteps,
        texts=texts,
        inversions=inversions,
        loras=loras,
        controls=networks.controls(read_network, unet=unet, own=loras.denoiser.own_weights),
        hypernetworks=Hypernetworks(networks.hypernetwork_folder, unet),
        is_compiled=networks.compiler is not None,
    )


def _kind_by_channels(parts: CheckpointParts, unet: Any) -> str:
    """A UNet's purpose, for its family's name, told by its input channels.

    Raises:
        Refused: no known purpose has that many.
    """
    latent_channels = int(unet.config.out_channels)
    beside = _BESIDE.get(unet.config.in_channels - latent_channels)
    if beside is None:
        known = one_of(str(latent_channels + more) for more in _BESIDE)
        reason = f"its UNet has {unet.config.in_channels} input channels; use one with {known}"
        raise Refused("model", parts.source, reason)
    return beside


def _text_encoders(
    networks: NetworkBuilder, parts: CheckpointParts, *, is_xl: bool, is_2: bool
) -> tuple[TextEncoder, ...]:
    is_refiner = is_xl and len(parts.text_encoders) == 1
    # A1111's `clip_skip` affects 1.x only; 2.x ends with the right layer, XL takes the last but one
    layer = 2 if is_xl else 1 if is_2 else None
    return tuple(
        networks.text_encoder(
            parts,
            index,
            layer=layer,
            projects=is_refiner or index == 1,
            may_skip=is_xl and index == 0 and not is_refiner,
        )
        for index in range(len(parts.text_encoders))
    )


def _stable_diffusion_3(networks: NetworkBuilder, parts: CheckpointParts) -> StableDiffusion3:
    if len(parts.text_encoders) != 2:
        raise Refused(
            "model",
            parts.source,
            "it lacks one of the two CLIP text encoders of SD 3; use a complete checkpoint",
        )
    transformer = networks.transformer(parts, SD3Transformer2DModel, PATCH)
    texts = tuple(networks.text_encoder(parts, index, layer=2, projects=True) for index in range(2))
    t5 = networks.t5(parts)
    vae = networks.vae(parts)
    loras = networks.loras(transformer, texts, t5)
    return StableDiffusion3(
        name="SD 3",
        device=networks.device,
        dtype=networks.dtype,
        shift=Shift.of(parts.scheduler),
        transformer=transformer,
        vae=vae,
        vaes=networks.vaes(vae, "taesd3"),
        texts=texts,
        t5=t5,
        loras=loras,
        controls=networks.controls(
            read_sd3_network, transformer=transformer, own=loras.denoiser.own_weights, vae=vae
        ),
        is_compiled=networks.compiler is not None,
    )


def _flux(networks: NetworkBuilder, parts: CheckpointParts) -> Flux:
    t5 = networks.t5(parts)
    if t5 is None:
        raise Refused(
            "model", parts.source, "it lacks T5, its second text encoder; use a complete checkpoint"
        )
    transformer = networks.transformer(parts, FluxTransformer2DModel, 1)
    clip = networks.text_encoder(parts, 0, layer=None, projects=False)
    vae = networks.vae(parts)
    return Flux(
        name="Flux",
        device=networks.device,
        dtype=networks.dtype,
        shift=Shift.of(parts.scheduler),
        transformer=transformer,
        vae=vae,
        vaes=networks.vaes(vae, "taef1"),
        clip=clip,
        t5=t5,
        loras=networks.loras(transformer, (clip,), t5),
        controls=networks.controls(read_flux_network, transformer=transformer, vae=vae),
        is_compiled=networks.compiler is not None,
    )


def _prediction(parts: CheckpointParts, unet: Any, dtype: torch.dtype) -> Prediction:
    kind = parts.scheduler.get("prediction_type", "epsilon")
    if kind == UNKNOWN:
        return "v" if _answers_velocity(unet, dtype) else "epsilon"
    if kind not in _PREDICTIONS:
        raise Refused(
            "model.prediction_type", kind, f"use a checkpoint that predicts one of {', '.join(_PREDICTIONS)}"
        )
    return _PREDICTIONS[kind]


@torch.inference_mode()
def _answers_velocity(unet: Any, dtype: torch.dtype) -> bool:
    """A1111's test of a 2.x file: at the last timestep, velocity is about -x0, far from the noise in x."""
    x = torch.full((1, unet.config.in_channels, 8, 8), 0.5, device=unet.device, dtype=dtype)
    context = torch.full((1, 2, unet.config.cross_attention_dim), 0.5, device=unet.device, dtype=dtype)
    answer = unet(x, torch.tensor([999.0], device=unet.device), encoder_hidden_states=context).sample
    return bool((answer - x[:, : answer.shape[1]]).mean() < -1)


#: builders of families, by the class of the denoiser
_FAMILIES: dict[str, Callable[[NetworkBuilder, CheckpointParts], Family]] = {
    UNET2D: _stable_diffusion,
    SD3: _stable_diffusion_3,
    FLUX: _flux,
}
