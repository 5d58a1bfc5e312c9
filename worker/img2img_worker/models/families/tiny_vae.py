"""TAESD (Bohan 2023, github.com/madebyollin/taesd): a small network that approximates a VAE."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from img2img_worker.models.families.edge_padding import Padding
from img2img_worker.models.families.vae import Decoded, hold_weights, in_rows, to_pictures
from img2img_worker.models.steps import Steps


@dataclass(frozen=True, kw_only=True)
class TinyVae:
    """One half of a TAESD, which encodes or decodes. Implements `Autoencoder`.

    Its latents are in the denoiser's own scale.
    """

    #: diffusers' EncoderTiny or DecoderTiny, which have no types
    network: Any
    device: torch.device
    dtype: torch.dtype

    @cached_property
    def _padding(self) -> Padding:
        return Padding(self.network)

    def encode(self, image: Tensor, rows: int | None, *, tiling: bool = False) -> Steps[Tensor]:
        """[B, 3, H, W] in [-1, 1] to latents [B, C, h, w]."""
        return self._answers(image, rows, tiling=tiling)

    def decode(
        self, latents: Tensor, rows: int | None, *, tiling: bool = False, full_precision: bool = False
    ) -> Steps[Decoded]:
        """Latents [B, C, h, w] to pictures: clamped, times 255, truncated.

        Args:
            full_precision: has no effect, since TAESD does not overflow in half precision.
        """
        answers = yield from self._answers(latents, rows, tiling=tiling)
        return to_pictures(answers)

    def _answers(self, batch: Tensor, rows: int | None, *, tiling: bool) -> Steps[Tensor]:
        def run(piece: Tensor) -> Steps[Tensor]:
            yield
            hold_weights(self.network, self.device)
            self._padding.apply(circular=tiling)
            answer: Tensor = self.network(piece)
            return answer

        answers = yield from in_rows(run, batch.to(self.dtype), rows)
        return answers.float()
