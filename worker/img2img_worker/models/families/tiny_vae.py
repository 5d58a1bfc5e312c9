"""TAESD (Bohan 2023, github.com/madebyollin/taesd): a small network that does roughly what a VAE does."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from img2img_worker.models.families.padding import Padding
from img2img_worker.models.families.vae import Decoded, in_rows, to_pictures, to_unit


@dataclass(frozen=True, kw_only=True)
class TinyVae:
    """One half of a TAESD, by which images are encoded, or decoded. Implements `Autoencoder`.

    Its latents are those that the denoiser knows: nothing is scaled.
    """

    #: diffusers' EncoderTiny or DecoderTiny, which say nothing of their types
    network: Any
    device: torch.device
    dtype: torch.dtype

    @cached_property
    def _padding(self) -> Padding:
        return Padding(self.network)

    def encode(self, pixels: Tensor, rows: int | None, *, tiling: bool = False) -> Tensor:
        """uint8 [B, H, W, 3] to latents [B, C, h, w]."""
        return self.latents(to_unit(pixels, self.device), rows, tiling=tiling)

    def latents(self, image: Tensor, rows: int | None, *, tiling: bool = False) -> Tensor:
        """[B, 3, H, W] in [-1, 1] to latents [B, C, h, w]."""
        return self._answers(image, rows, tiling=tiling)

    def decode(self, latents: Tensor, rows: int | None, *, tiling: bool = False) -> Decoded:
        """Latents [B, C, h, w] to pictures: clamped, times 255, truncated."""
        return to_pictures(self._answers(latents, rows, tiling=tiling))

    def _answers(self, batch: Tensor, rows: int | None, *, tiling: bool) -> Tensor:
        self._padding.apply(circular=tiling)
        return in_rows(self.network, batch.to(self.dtype), rows).float()
