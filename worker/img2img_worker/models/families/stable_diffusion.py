"""Stable Diffusion 1.x and 2.x, their 9-channel inpainting checkpoints, and instruct-pix2pix."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from img2img_worker.models.adapters.lora import Loras
from img2img_worker.models.adapters.patch import NO_PATCH, Patch
from img2img_worker.models.families.family import Cond, Prediction
from img2img_worker.models.families.vae import Vae
from img2img_worker.models.prompts.text_encoder import TextEncoder, encode
from img2img_worker.sampling.levels import NoiseLevels


@dataclass(frozen=True, kw_only=True)
class StableDiffusion:
    """One UNet, one VAE, one CLIP text model. Implements `Family`, which says what goes in and out."""

    name: str
    device: torch.device
    dtype: torch.dtype
    noise_levels: NoiseLevels
    prediction: Prediction
    #: diffusers' UNet2DConditionModel, which says nothing of its types
    unet: Any
    vae: Vae
    #: one, or SDXL's two
    texts: tuple[TextEncoder, ...]
    loras: Loras

    @property
    def latent_channels(self) -> int:
        return self.vae.channels

    @property
    def vae_factor(self) -> int:
        return self.vae.factor

    @property
    def picture_channels(self) -> int:
        """Channels beside the latent: 5 mask and masked latent, 4 (edit) the picture's latent, 0 none."""
        return int(self.unet.config.in_channels) - self.latent_channels

    @property
    def edits(self) -> bool:
        return self.picture_channels == self.latent_channels

    @property
    def distilled(self) -> bool:
        return False

    def levels(self, latent_size: tuple[int, int]) -> NoiseLevels:  # noqa: ARG002 (the same for all sizes)
        return self.noise_levels

    @torch.inference_mode()
    def conditions(
        self, prompts: Sequence[str], *, clip_skip: int = 1, negative: bool = False, loras: Patch = NO_PATCH
    ) -> list[Cond]:
        self.loras.texts.apply(loras)
        encoded = encode(self.texts, prompts, clip_skip=clip_skip, negative=negative)
        return [Cond(context=text.context, pooled=text.pooled) for text in encoded]

    @torch.inference_mode()
    def picture(
        self, pixels: Tensor, masks: Tensor | None, *, mask_round: bool = True, rows: int | None = None
    ) -> Tensor | None:
        if self.picture_channels == 0:
            return None
        image = self.vae.to_unit(pixels)
        if self.edits:  # unscaled, as it was trained (Brooks et al. 2023)
            return self.vae.mean(image, rows)
        if masks is None:
            mask = image.new_ones(image.shape[0], 1, *image.shape[-2:])
        else:
            mask = masks.to(self.device)[:, None].float() / 255
            mask = mask.round() if mask_round else mask
        masked = self.vae.mean(image * (1 - mask), rows) * self.vae.scale
        return torch.cat([F.interpolate(mask, size=masked.shape[-2:]), masked], dim=1)

    def place(
        self,
        cond: Cond,
        *,
        width: int,
        height: int,
        picture: Tensor | None = None,
        distilled_cfg_scale: float | None = None,  # noqa: ARG002 (it is not `distilled`)
    ) -> Cond:
        if cond.pooled is None:
            return replace(cond, concat=picture)
        sizes = torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32, device=self.device)
        return replace(cond, concat=picture, time_ids=sizes)

    @torch.inference_mode()
    def encode(self, pixels: Tensor, *, rows: int | None = None) -> Tensor:
        return self.vae.encode(pixels, rows)

    @torch.inference_mode()
    def predict(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        self.loras.denoiser.apply(cond.loras)
        if cond.concat is not None:
            x = torch.cat([x, cond.concat], dim=1)
        added = None
        if cond.pooled is not None:
            added = {"text_embeds": cond.pooled.to(self.dtype), "time_ids": cond.time_ids}
        # timesteps stay float32: the UNet takes their sines before it lowers the precision
        answer: Tensor = self.unet(
            x.to(self.dtype),
            t,
            encoder_hidden_states=cond.context.to(self.dtype),
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        # a copy in any case: a CUDA graph's answer lies where its next one will
        return answer.to(torch.float32, copy=True)

    @torch.inference_mode()
    def decode(self, latents: Tensor, *, rows: int | None = None) -> Tensor:
        return self.vae.decode(latents, rows)
