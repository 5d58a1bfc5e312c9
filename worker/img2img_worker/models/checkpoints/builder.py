"""From the parts of a checkpoint to the family that they are of, its networks on their device."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

from img2img_shared.errors import Refused
from img2img_shared.suggestions import one_of
from img2img_worker.models.adapters.hypernetworks import Hypernetworks
from img2img_worker.models.adapters.lora import Loras
from img2img_worker.models.checkpoints.noise_schedule import latent_scale, noise_levels
from img2img_worker.models.checkpoints.parts import FLUX, SD3, UNET2D, CheckpointParts, Component
from img2img_worker.models.checkpoints.single_file import UNKNOWN
from img2img_worker.models.checkpoints.vae_files import VaeFiles, read_tiny, read_vae
from img2img_worker.models.checkpoints.weights import assemble
from img2img_worker.models.control.folder import ControlNets
from img2img_worker.models.families.family import Family, Prediction
from img2img_worker.models.families.flow import PATCH, Shift
from img2img_worker.models.families.flux import Flux
from img2img_worker.models.families.sd3 import StableDiffusion3
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from img2img_worker.models.families.tiny_vae import TinyVae
from img2img_worker.models.families.unet import as_published
from img2img_worker.models.families.vae import Autoencoder, Vae
from img2img_worker.models.families.vaes import VaeFile, Vaes
from img2img_worker.models.prompts.t5 import T5
from img2img_worker.models.prompts.text_encoder import TextEncoder
from img2img_worker.models.prompts.textual_inversion import TextualInversions

_PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v"}
#: how a VAE's latents are scaled: a checkpoint's affair, whichever VAE it is
_SCALES = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
#: channels that a UNet takes beside the latent, and what it is for
_BESIDE = {0: "", 4: " edit", 5: " inpainting"}


@dataclass(frozen=True, kw_only=True)
class Builder:
    """Where a checkpoint's networks go, and in which precision."""

    device: torch.device
    dtype: torch.dtype
    #: Stable Diffusion's VAEs overflow in float16, so theirs is its own
    vae_dtype: torch.dtype
    #: see `Vae.tile`
    vae_tile: int | None
    #: where LoRAs for it may be
    lora_folder: Path | None
    #: where textual inversions may be
    inversion_folders: tuple[Path, ...] = ()
    #: where hypernetworks for it may be
    hypernetwork_folder: Path | None = None
    #: where VAEs for it may be
    vae_files: VaeFiles = field(default_factory=VaeFiles)
    #: where control networks may be, and whether they may be pickles
    control_folders: tuple[Path, ...] = ()
    allow_pickles: bool = False
    #: torch.compile's backend for the denoiser; None: it runs as it is
    compiler: str | None

    def build(self, parts: CheckpointParts) -> Family:
        """The family that these parts are of.

        Raises:
            Refused: a family that is not known, weights that do not fit their configuration.
        """
        return _FAMILIES[parts.denoiser.config["_class_name"]](self, parts)

    def _stable_diffusion(self, parts: CheckpointParts) -> StableDiffusion:
        unet = self._denoiser(parts, UNet2DConditionModel)
        as_published(unet)
        latent_channels = int(unet.config.out_channels)
        beside = _BESIDE.get(unet.config.in_channels - latent_channels)
        if beside is None:
            known = one_of(str(latent_channels + more) for more in _BESIDE)
            reason = f"its UNet has {unet.config.in_channels} input channels; use one with {known}"
            raise Refused("model", parts.source, reason)
        is_xl = unet.config.addition_embed_type == "text_time"
        is_refiner = is_xl and len(parts.text_encoders) == 1
        is_2 = unet.config.use_linear_projection and not is_xl
        # A1111's `clip_skip` reaches 1.x only; 2.x ends with the layer that is meant, XL takes the one before
        layer = 2 if is_xl else 1 if is_2 else None
        texts = tuple(
            self._text_encoder(
                parts,
                index,
                layer=layer,
                projects=is_refiner or index == 1,
                may_skip=index == 0 and not is_refiner,
            )
            for index in range(len(parts.text_encoders))
        )
        loras = self._loras(unet, texts)
        inversions = TextualInversions(
            self.inversion_folders,
            texts[0].tokenize,
            [text.model.config.hidden_size for text in texts],
            loras.bundled,
        )
        texts = tuple(replace(text, inversions=inversions, part=index) for index, text in enumerate(texts))
        levels = noise_levels(parts.scheduler, is_sdxl=is_xl)
        prediction = _prediction(parts, unet)
        vae, sign = self._vae(parts, latent_scale(parts.scheduler)), 1
        if prediction == "epsilon" and not levels.has_whole_timesteps:
            # Karras et al.'s preconditioning: a velocity the other way round
            prediction, sign = "v", -1
        return StableDiffusion(
            name=("SDXL refiner" if is_refiner else "SDXL" if is_xl else "SD 2.x" if is_2 else "SD 1.x")
            + beside,
            config_file=parts.config_file,
            device=self.device,
            dtype=self.dtype,
            noise_levels=levels,
            prediction=prediction,
            answer_sign=sign,
            unet=unet,
            vae=vae,
            vaes=self._vaes(vae, "taesdxl" if is_xl else "taesd"),
            scales_edited=not levels.has_whole_timesteps,
            texts=texts,
            inversions=inversions,
            loras=loras,
            controls=self._controls(unet, loras),
            hypernetworks=Hypernetworks(self.hypernetwork_folder, unet),
            is_compiled=self.compiler is not None,
        )

    def _stable_diffusion_3(self, parts: CheckpointParts) -> StableDiffusion3:
        if len(parts.text_encoders) != 2:
            raise Refused(
                "model",
                parts.source,
                "it lacks one of the two CLIP text encoders of SD 3; use a complete checkpoint",
            )
        transformer = self._transformer(parts, SD3Transformer2DModel, PATCH)
        texts = tuple(self._text_encoder(parts, index, layer=2, projects=True) for index in range(2))
        t5 = self._t5(parts)
        vae = self._vae(parts)
        return StableDiffusion3(
            name="SD 3",
            device=self.device,
            dtype=self.dtype,
            shift=Shift.of(parts.scheduler),
            transformer=transformer,
            vae=vae,
            vaes=self._vaes(vae, "taesd3"),
            texts=texts,
            t5=t5,
            loras=self._loras(transformer, texts, t5),
            controls=self._controls(),
            is_compiled=self.compiler is not None,
        )

    def _flux(self, parts: CheckpointParts) -> Flux:
        t5 = self._t5(parts)
        if t5 is None:
            raise Refused(
                "model", parts.source, "it lacks T5, its second text encoder; use a complete checkpoint"
            )
        transformer = self._transformer(parts, FluxTransformer2DModel, 1)
        clip = self._text_encoder(parts, 0, layer=None, projects=False)
        vae = self._vae(parts)
        return Flux(
            name="Flux",
            device=self.device,
            dtype=self.dtype,
            shift=Shift.of(parts.scheduler),
            transformer=transformer,
            vae=vae,
            vaes=self._vaes(vae, "taef1"),
            clip=clip,
            t5=t5,
            loras=self._loras(transformer, (clip,), t5),
            controls=self._controls(),
            is_compiled=self.compiler is not None,
        )

    def _transformer(self, parts: CheckpointParts, kind: Any, patch: int) -> Any:
        """Checked for the shape that its family is written for.

        Args:
            patch: cells that the transformer itself makes one token of, each way.
        """
        transformer = self._denoiser(parts, kind)
        cells = int(parts.vae.config.get("latent_channels", 4)) * (PATCH // patch) ** 2
        config = transformer.config
        if (config.patch_size, config.in_channels, transformer.out_channels) != (patch, cells, cells):
            has = f"{config.patch_size}, {config.in_channels} and {transformer.out_channels}"
            reason = (
                f"its transformer has {has}; use one with patches of {patch} and {cells} channels in and out"
            )
            raise Refused("model", parts.source, reason)
        return transformer

    def _t5(self, parts: CheckpointParts) -> T5 | None:
        if parts.t5 is None:
            return None

        def make(config: dict[str, Any]) -> nn.Module:
            model: nn.Module = T5EncoderModel(T5Config.from_dict(config))
            return model

        shared = parts.t5.weights.get("shared.weight", parts.t5.weights.get("encoder.embed_tokens.weight"))
        both = {} if shared is None else {"shared.weight": shared, "encoder.embed_tokens.weight": shared}
        whole = Component(config=parts.t5.config, weights={**parts.t5.weights, **both})
        # T5 overflows in float16; it was trained in bfloat16
        dtype = torch.bfloat16 if self.dtype == torch.float16 else self.dtype
        model = self._network(parts.source, whole, make, dtype)
        model.encoder.embed_tokens.weight = model.shared.weight
        return T5(tokenizer=parts.t5_tokenizer, model=model)

    def _vae(self, parts: CheckpointParts, latent_scale: float = 1.0) -> Vae:
        network = self._network(parts.source, parts.vae, AutoencoderKL.from_config, self.vae_dtype)
        return Vae(network=network, device=self.device, tile=self.vae_tile, latent_scale=latent_scale)

    def _vaes(self, vae: Vae, tiny: str) -> Vaes:
        return Vaes(self.vae_files, tiny=tiny, read=partial(self._read_vae, vae))

    def _read_vae(self, like: Vae, file: VaeFile) -> Autoencoder:
        """What a file holds, in place of the checkpoint's VAE.

        Raises:
            Refused: it is none for this checkpoint.
        """
        try:
            if file.kind in ("encoder", "decoder"):
                return self._tiny_vae(like, file)
            config = like.network.config
            scales = {name: config[name] for name in _SCALES if config.get(name) is not None}
            component = read_vae(file.path, is_checkpoint=file.kind == "own", **scales)
            network = self._network(file.path.name, component, AutoencoderKL.from_config, self.vae_dtype)
        except Refused as error:
            raise Refused("vae", file.path.name, error.reason) from None
        vae = replace(like, network=network)
        if (vae.channels, vae.factor) != (like.channels, like.factor):
            reason = f"its latents have {vae.channels} channels, a cell to {vae.factor} pixels"
            wanted = f"{like.channels} and {like.factor} are needed"
            raise Refused("vae", file.path.name, f"{reason}; {wanted}")
        return vae

    def _tiny_vae(self, like: Vae, file: VaeFile) -> TinyVae:
        def make(config: dict[str, Any]) -> nn.Module:
            half: nn.Module = getattr(AutoencoderTiny(**config), file.kind)
            return half

        component = read_tiny(file.path, is_decoder=file.kind == "decoder", latent_channels=like.channels)
        network = self._network(file.path.name, component, make)
        return TinyVae(network=network, device=self.device, dtype=self.dtype)

    def _text_encoder(
        self, parts: CheckpointParts, index: int, *, layer: int | None, projects: bool, may_skip: bool = False
    ) -> TextEncoder:
        def make(config: dict[str, Any]) -> nn.Module:
            kind = CLIPTextModelWithProjection if projects else CLIPTextModel
            model: nn.Module = kind(CLIPTextConfig.from_dict(config))
            return model

        model = self._network(parts.source, parts.text_encoders[index], make)
        return TextEncoder(
            tokenizer=parts.tokenizers[index],
            model=model,
            layer=layer,
            may_skip=may_skip,
            final_norm=layer != 2,
        )

    def _loras(self, denoiser: nn.Module, texts: tuple[TextEncoder, ...], t5: T5 | None = None) -> Loras:
        models = [text.model for text in texts] + ([] if t5 is None else [t5.model])
        return Loras(self.lora_folder, denoiser, models)

    def _controls(self, unet: Any = None, loras: Loras | None = None) -> ControlNets:
        return ControlNets(
            self.control_folders,
            unet,
            dict if loras is None else partial(loras.denoiser.unpatched, unet),
            device=self.device,
            dtype=self.dtype,
            allow_pickles=self.allow_pickles,
        )

    def _denoiser(self, parts: CheckpointParts, kind: Any) -> Any:
        network = self._network(parts.source, parts.denoiser, kind.from_config)
        if self.compiler is None:
            return network
        if kind is FluxTransformer2DModel:
            # only what repeats: around it are hooks that are another at each call (see `Flux.velocity`)
            network.compile_repeated_blocks(backend=self.compiler, dynamic=False)
            return network
        # with CUDA graphs: few rows are done sooner than Python can launch their kernels
        mode = "reduce-overhead" if self.device.type == "cuda" and self.compiler == "inductor" else None
        network.compile(backend=self.compiler, mode=mode, dynamic=False)
        return network

    def _network(self, source: str, component: Component, make: Any, dtype: torch.dtype | None = None) -> Any:
        built: nn.Module = assemble(
            partial(make, dict(component.config)),
            component.weights,
            device=self.device,
            dtype=dtype or self.dtype,
            source=source,
        )
        if self.device.type == "cuda":  # the layout that a GPU's convolutions want
            built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's own stub
        return built


#: how a checkpoint becomes a family, by the class of its denoiser
_FAMILIES: dict[str, Callable[[Builder, CheckpointParts], Family]] = {
    UNET2D: Builder._stable_diffusion,
    SD3: Builder._stable_diffusion_3,
    FLUX: Builder._flux,
}


def _prediction(parts: CheckpointParts, unet: Any) -> Prediction:
    kind = parts.scheduler.get("prediction_type", "epsilon")
    if kind == UNKNOWN:
        return "v" if _answers_velocity(unet) else "epsilon"
    if kind not in _PREDICTIONS:
        raise Refused(
            "model.prediction_type", kind, f"use a checkpoint that predicts one of {', '.join(_PREDICTIONS)}"
        )
    return _PREDICTIONS[kind]


@torch.inference_mode()
def _answers_velocity(unet: Any) -> bool:
    """A1111's test of a 2.x file: at the last timestep, velocity is about -x0, far from the noise in x."""
    x = torch.full((1, unet.config.in_channels, 8, 8), 0.5, device=unet.device, dtype=unet.dtype)
    context = torch.full((1, 2, unet.config.cross_attention_dim), 0.5, device=unet.device, dtype=unet.dtype)
    answer = unet(x, torch.tensor([999.0], device=unet.device), encoder_hidden_states=context).sample
    return bool((answer - x[:, : answer.shape[1]]).mean() < -1)
