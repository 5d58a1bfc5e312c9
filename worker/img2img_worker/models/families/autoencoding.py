"""Pictures to latents and back, by the VAE that an image uses: the same for every family."""

from dataclasses import dataclass

import torch
from torch import Tensor

from img2img_worker.models.families.vae import Autoencoder, Decoded, Vae, to_unit
from img2img_worker.models.families.vaes import VaeFile, Vaes
from img2img_worker.models.steps import Steps, run_now


@dataclass(frozen=True, kw_only=True)
class Autoencoding:
    """The part of `Family` that encodes and decodes; see there."""

    device: torch.device
    vae: Vae
    #: the VAEs that images may use in its place
    vaes: Vaes

    @property
    def latent_channels(self) -> int:
        return self.vae.channels

    @property
    def vae_factor(self) -> int:
        return self.vae.factor

    def encode(
        self, pixels: Tensor, *, tiling: bool = False, rows: int | None = None, vae: VaeFile | None = None
    ) -> Tensor:
        return run_now(self.encode_steps(pixels, tiling=tiling, rows=rows, vae=vae))

    @torch.inference_mode()
    def encode_steps(
        self, pixels: Tensor, *, tiling: bool = False, rows: int | None = None, vae: VaeFile | None = None
    ) -> Steps[Tensor]:
        return (yield from self._vae(vae).encode(to_unit(pixels, self.device), rows, tiling=tiling))

    def decode(
        self, latents: Tensor, *, tiling: bool = False, rows: int | None = None, vae: VaeFile | None = None
    ) -> Decoded:
        return run_now(self.decode_steps(latents, tiling=tiling, rows=rows, vae=vae))

    @torch.inference_mode()
    def decode_steps(
        self,
        latents: Tensor,
        *,
        tiling: bool = False,
        rows: int | None = None,
        vae: VaeFile | None = None,
        full_precision: bool = False,
    ) -> Steps[Decoded]:
        decode = self._vae(vae).decode
        return (yield from decode(latents, rows, tiling=tiling, full_precision=full_precision))

    def _vae(self, file: VaeFile | None) -> Autoencoder:
        return self.vae if file is None else self.vaes.get(file)
