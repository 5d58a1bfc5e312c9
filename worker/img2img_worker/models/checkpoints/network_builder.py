"""Builds a checkpoint's networks on their device, and finders for the files that are used with them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, FluxTransformer2DModel
from torch import nn

from img2img_shared.errors import Refused
from img2img_worker.models.adapters.lora import Loras
from img2img_worker.models.checkpoints.mapped import MappedFiles
from img2img_worker.models.checkpoints.parts import CheckpointParts, Component
from img2img_worker.models.checkpoints.vae_files import VaeFiles, read_tiny, read_vae
from img2img_worker.models.checkpoints.weights import assemble
from img2img_worker.models.control.clip_vision import read_clip_vision
from img2img_worker.models.control.control_nets import ControlNets
from img2img_worker.models.control.image_prompt import ImagePromptAdapter
from img2img_worker.models.control.networks import ControlNetwork
from img2img_worker.models.families.packed_convolutions import pack_convolutions
from img2img_worker.models.families.patches import PATCH
from img2img_worker.models.families.tiny_vae import TinyVae
from img2img_worker.models.families.vae import Autoencoder, Vae
from img2img_worker.models.families.vaes import VaeFile, Vaes
from img2img_worker.models.prompts.clip_text import ClipText, ClipTextConfig
from img2img_worker.models.prompts.t5 import T5
from img2img_worker.models.prompts.text_encoder import TextEncoder

#: settings for scaling latents: the checkpoint's hold, whichever VAE is used
_SCALES = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")


@dataclass(frozen=True, kw_only=True)
class NetworkBuilder:
    """Builds a checkpoint's networks, and what is used with them, for one device and precision."""

    device: torch.device
    dtype: torch.dtype
    #: separate, since some of Stable Diffusion's VAEs overflow in float16
    vae_dtype: torch.dtype
    #: whether the denoiser and the text encoders keep their weights in 8 bits
    float8: bool = False
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
    clip_folders: tuple[Path, ...] = ()
    allow_pickles: bool = False
    #: torch.compile's backend for the denoiser; None: it is not compiled
    compiler: str | None

    def transformer(self, parts: CheckpointParts, kind: Any, patch: int) -> Any:
        """A family's transformer.

        Args:
            patch: cells along each side of the patch that the transformer itself turns into a token.

        Raises:
            Refused: its patches or channels are not those that its family is written for.
        """
        transformer = self.denoiser(parts, kind)
        cells = int(parts.vae.config.get("latent_channels", 4)) * (PATCH // patch) ** 2
        config = transformer.config
        if (config.patch_size, config.in_channels, transformer.out_channels) != (patch, cells, cells):
            has = f"{config.patch_size}, {config.in_channels} and {transformer.out_channels}"
            reason = (
                f"its transformer has {has}; use one with patches of {patch} and {cells} channels in and out"
            )
            raise Refused("model", parts.source, reason)
        return transformer

    def t5(self, parts: CheckpointParts) -> T5 | None:
        """The T5 that a checkpoint may have as its second kind of text encoder; None: it has none."""
        if parts.t5 is None:
            return None

        def make(config: dict[str, Any]) -> nn.Module:
            from transformers import T5Config, T5EncoderModel  # imported here: only T5 needs that second

            model: nn.Module = T5EncoderModel(T5Config.from_dict(config))
            return model

        shared = parts.t5.weights.get("shared.weight", parts.t5.weights.get("encoder.embed_tokens.weight"))
        both = {} if shared is None else {"shared.weight": shared, "encoder.embed_tokens.weight": shared}
        whole = Component(config=parts.t5.config, weights={**parts.t5.weights, **both})
        # T5 overflows in float16; it was trained in bfloat16
        dtype = torch.bfloat16 if self.dtype == torch.float16 else self.dtype
        model = self.network(parts.source, whole, make, dtype, files=parts.files, float8=self.float8)
        model.encoder.embed_tokens.weight = model.shared.weight
        return T5(tokenizer=parts.t5_tokenizer, model=model)

    def vae(self, parts: CheckpointParts, latent_scale: float = 1.0) -> Vae:
        """The checkpoint's own VAE; see `Vae.latent_scale`."""
        network = self.network(
            parts.source, parts.vae, AutoencoderKL.from_config, self.vae_dtype, files=parts.files
        )
        return Vae(network=network, device=self.device, tile=self.vae_tile, latent_scale=latent_scale)

    def vaes(self, vae: Vae, tiny: str) -> Vaes:
        """The VAEs that an image may name in place of `vae`.

        Args:
            tiny: the name of the TAESD that fits.
        """
        return Vaes(self.vae_files, tiny=tiny, read=partial(self._read_vae, vae))

    def _read_vae(self, like: Vae, file: VaeFile) -> Autoencoder:
        """The VAE in a file, to be used in place of `like`.

        Raises:
            Refused: it is no VAE for this checkpoint.
        """
        try:
            if file.kind in ("encoder", "decoder"):
                return self._tiny_vae(like, file)
            config = like.network.config
            scales = {name: config[name] for name in _SCALES if config.get(name) is not None}
            component = read_vae(file.path, is_checkpoint=file.kind == "own", **scales)
            network = self.network(file.path.name, component, AutoencoderKL.from_config, self.vae_dtype)
        except Refused as error:
            raise Refused("vae", file.path.name, error.reason) from None
        vae = replace(like, network=network)
        if (vae.channels, vae.factor) != (like.channels, like.factor):
            has, wanted = (
                f"{each.channels} channels and cells of {each.factor} pixels" for each in (vae, like)
            )
            raise Refused("vae", file.path.name, f"its latents have {has}; use a VAE with {wanted}")
        return vae

    def _tiny_vae(self, like: Vae, file: VaeFile) -> TinyVae:
        def make(config: dict[str, Any]) -> nn.Module:
            half: nn.Module = getattr(AutoencoderTiny(**config), file.kind)
            return half

        component = read_tiny(file.path, is_decoder=file.kind == "decoder", latent_channels=like.channels)
        network = self.network(file.path.name, component, make)
        return TinyVae(network=network, device=self.device, dtype=self.dtype)

    def text_encoder(
        self, parts: CheckpointParts, index: int, *, layer: int | None, projects: bool, may_skip: bool = False
    ) -> TextEncoder:
        """One of the checkpoint's CLIP text models; the arguments are those of `TextEncoder`.

        Args:
            index: which of them.
            projects: whether its pooled output goes through a projection.
        """

        def make(config: dict[str, Any]) -> nn.Module:
            return ClipText(ClipTextConfig.of(config), projects=projects)

        model = self.network(
            parts.source, parts.text_encoders[index], make, files=parts.files, float8=self.float8
        )
        return TextEncoder(
            tokenizer=parts.tokenizers[index],
            model=model,
            layer=layer,
            may_skip=may_skip,
            final_norm=layer != 2,
        )

    def loras(self, denoiser: nn.Module, texts: tuple[TextEncoder, ...], t5: T5 | None = None) -> Loras:
        """The LoRAs of the folder, for a denoiser and its text encoders."""
        models = [text.model for text in texts] + ([] if t5 is None else [t5.model])
        return Loras(self.lora_folder, denoiser, models)

    def controls(self, read: Callable[..., ControlNetwork | ImagePromptAdapter], **what: Any) -> ControlNets:
        """The control networks of the folders.

        Args:
            read: reads one from a file, for a family's checkpoints.
            what: further arguments of `read`: the checkpoint's networks.
        """
        place: dict[str, Any] = {
            "device": self.device,
            "dtype": self.dtype,
            "allow_pickles": self.allow_pickles,
        }
        return ControlNets(
            self.control_folders,
            partial(read, **what, **place),
            self.clip_folders,
            partial(read_clip_vision, **place),
        )

    def denoiser(self, parts: CheckpointParts, kind: Any) -> Any:
        """The UNet or transformer, compiled if there is a `compiler`."""
        network = self.network(
            parts.source,
            parts.denoiser,
            kind.from_config,
            files=parts.files,
            fuses=self.compiler is None,
            float8=self.float8,
        )
        if self.compiler is None:
            pack_convolutions(network)
            return network
        if kind is FluxTransformer2DModel:
            # its repeated blocks only: around them are hooks that change with each call (see `Flux.velocity`)
            network.compile_repeated_blocks(backend=self.compiler, dynamic=False)
            return network
        # with CUDA graphs: with few rows, kernels take less time than Python takes to launch them
        mode = "reduce-overhead" if self.device.type == "cuda" and self.compiler == "inductor" else None
        network.compile(backend=self.compiler, mode=mode, dynamic=False)
        return network

    def network(
        self,
        source: str,
        component: Component,
        make: Any,
        dtype: torch.dtype | None = None,
        *,
        files: MappedFiles | None = None,
        fuses: bool = True,
        float8: bool = False,
    ) -> Any:
        """Any network with its weights, on the device.

        Args:
            source: the file or folder that errors name.
            make: builds the network from its configuration.
            dtype: None: `self.dtype`.
            files: the files that the weights are mapped from.
            fuses: as in `assemble`.
            float8: keep its weights in 8 bits.

        Raises:
            Refused: the weights do not fit.
        """
        built: nn.Module = assemble(
            partial(make, dict(component.config)),
            component.weights,
            device=self.device,
            dtype=dtype or self.dtype,
            source=source,
            files=files,
            fuses=fuses,
            float8=float8,
        )
        if self.device.type == "cuda":  # other streams may use the weights at once
            torch.cuda.current_stream(self.device).synchronize()
        return built
