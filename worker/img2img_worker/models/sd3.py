"""Stable Diffusion 3: a flow-matching transformer, told to the engine as a model that predicts noise.

Its x is ``(1 - sigma)·x0 + sigma·noise`` and its answer ``noise - x0`` (Esser et al. 2024). Divided by
``1 - sigma`` that is the variance-exploding latent of all the other families, ``x0 + s·noise`` with
``s = sigma / (1 - sigma)``, so plans, samplers and masks hold for it as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from img2img_worker.models.family import Cond, Prediction
from img2img_worker.models.lora import Loras
from img2img_worker.models.lora_patch import PLAIN, Patch
from img2img_worker.models.text import TextEncoder
from img2img_worker.models.vae import Vae
from img2img_worker.sampling.levels import NoiseLevels

#: the last level is noise alone, which is a variance-exploding sigma of infinity; this is as good
_LAST = 0.9999


@dataclass(frozen=True, kw_only=True)
class StableDiffusion3:
    """Two CLIP text models and, as A1111 has it by default, zeros in T5's place. Implements `Family`."""

    name: str
    device: torch.device
    dtype: torch.dtype
    levels: NoiseLevels
    #: diffusers' SD3Transformer2DModel, which says nothing of its types
    transformer: Any
    vae: Vae
    texts: tuple[TextEncoder, ...]
    loras: Loras

    @property
    def prediction(self) -> Prediction:
        return "epsilon"

    @property
    def latent_channels(self) -> int:
        return self.vae.channels

    @property
    def vae_factor(self) -> int:
        return self.vae.factor

    @property
    def edits(self) -> bool:
        return False

    @torch.inference_mode()
    def conditions(
        self,
        prompts: Sequence[str],
        *,
        clip_skip: int = 1,
        negative: bool = False,  # noqa: ARG002
        loras: Patch = PLAIN,
    ) -> list[Cond]:
        """As in `Family`; A1111's `clip_skip` does not reach SD 3, and an empty negative prompt is one."""
        self.loras.texts.wear(loras)
        width = int(self.transformer.config.joint_attention_dim)
        conds = []
        for parts in zip(*(encoder.encode(prompts, clip_skip) for encoder in self.texts), strict=True):
            clip = torch.cat([part.context for part in parts], dim=-1)
            clip = F.pad(clip, (0, width - clip.shape[-1]))
            pooled = torch.cat([part.pooled for part in parts if part.pooled is not None])
            conds.append(Cond(context=torch.cat([clip, torch.zeros_like(clip)]), pooled=pooled))
        return conds

    def picture(
        self,
        pixels: Tensor,  # noqa: ARG002 (it looks at none, and knows no size: so are the interface's names)
        masks: Tensor | None,  # noqa: ARG002
        *,
        mask_round: bool = True,  # noqa: ARG002
        rows: int | None = None,  # noqa: ARG002
    ) -> Tensor | None:
        return None

    def place(
        self,
        cond: Cond,
        *,
        width: int,  # noqa: ARG002
        height: int,  # noqa: ARG002
        picture: Tensor | None = None,  # noqa: ARG002
    ) -> Cond:
        return cond

    @torch.inference_mode()
    def encode(self, pixels: Tensor, *, rows: int | None = None) -> Tensor:
        return self.vae.encode(pixels, rows)

    @torch.inference_mode()
    def predict(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        self.loras.denoiser.wear(cond.loras)
        sigma = (t / 1000)[:, None, None, None]
        # from the variance-preserving latent that the plan scales to, to the flow's
        x = x * ((1 - sigma) ** 2 + sigma**2).sqrt()
        velocity = self.transformer(
            x.to(self.dtype),
            timestep=t,
            encoder_hidden_states=cond.context.to(self.dtype),
            pooled_projections=None if cond.pooled is None else cond.pooled.to(self.dtype),
            return_dict=False,
        )[0]
        noise: Tensor = x + (1 - sigma) * velocity.float()
        return noise

    @torch.inference_mode()
    def decode(self, latents: Tensor, *, rows: int | None = None) -> Tensor:
        return self.vae.decode(latents, rows)


def flow_levels(shift: float, steps: int = 1000) -> NoiseLevels:
    """Levels of a flow whose sigmas were shifted towards noise by `shift`; timesteps are 1000·sigma."""
    even = np.arange(1, steps + 1) / steps
    sigmas = np.minimum(shift * even / (1 + (shift - 1) * even), _LAST)
    exploding = sigmas / (1 - sigmas)
    return NoiseLevels(alphas_cumprod=1 / (1 + exploding**2), timesteps=1000 * sigmas)
