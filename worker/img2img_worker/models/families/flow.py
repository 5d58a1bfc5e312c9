"""The common part of flow-matching transformers, presented to the engine as models that predict a velocity.

Their x is ``(1 - f) x0 + f noise`` for a share f of noise, and they predict ``noise - x0`` (Esser et al.
2024, arXiv:2403.03206). `sampling.levels.FlowLevels` says how this x relates to the engine's, and what that
means for samplers.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp
from typing import Any, Self

import torch
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_worker.models.adapters.hypernetworks import NO_HYPERNETWORKS, Hypernetworks, HypernetworkSet
from img2img_worker.models.adapters.lora import Loras
from img2img_worker.models.adapters.patch import NO_PATCH, Patch
from img2img_worker.models.control.control_nets import ControlNets
from img2img_worker.models.families.autoencoding import Autoencoding
from img2img_worker.models.families.condition import Condition, Conditions
from img2img_worker.models.families.family import Prediction
from img2img_worker.models.families.patches import PATCH
from img2img_worker.models.families.vaes import VaeFile
from img2img_worker.models.prompts.text_encoder import Encoded
from img2img_worker.models.prompts.textual_inversion import TextualInversions
from img2img_worker.models.steps import Steps, without_steps
from img2img_worker.sampling.levels import FlowLevels, flow_levels

#: training steps of every published flow
_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How far noise levels are shifted towards noise; a dynamic shift is larger for larger pictures."""

    #: the shift of pictures of `few` patches, and of `many`; between and beyond them it is linear
    low: float
    high: float
    few: int = 256
    many: int = 4096
    #: whether `low` and `high` are logarithms of the shift, and the logarithm is what is linear
    exponential: bool = False

    @classmethod
    def of(cls, scheduler: Mapping[str, Any]) -> Self:
        """From diffusers' configuration of FlowMatchEulerDiscreteScheduler.

        Raises:
            Refused: the configuration makes no sense.
        """
        try:
            if int(scheduler.get("num_train_timesteps", _STEPS)) != _STEPS:
                raise ValueError(f"num_train_timesteps is not {_STEPS}")
            if not scheduler.get("use_dynamic_shifting", False):
                shift = float(scheduler.get("shift", 1.0))
                found = cls(low=shift, high=shift)
            else:
                found = cls(
                    low=float(scheduler.get("base_shift", 0.5)),
                    high=float(scheduler.get("max_shift", 1.15)),
                    few=int(scheduler.get("base_image_seq_len", 256)),
                    many=int(scheduler.get("max_image_seq_len", 4096)),
                    exponential=scheduler.get("time_shift_type", "exponential") == "exponential",
                )
            if not (found.at(found.few) > 0 and found.at(found.many) > 0):
                raise ValueError("a shift is not above 0")
        except (TypeError, ValueError, ArithmeticError) as error:
            raise Refused(
                "model.scheduler",
                dict(scheduler),
                f"its shift makes no sense ({error}); use another checkpoint",
            ) from None
        return found

    def at(self, patches: int) -> float:
        """The shift of a picture with that many patches."""
        value = self.low + (self.high - self.low) * (patches - self.few) / (self.many - self.few)
        return exp(value) if self.exponential else value


@dataclass(frozen=True, kw_only=True)
class FlowFamily(Autoencoding, ABC):
    """All of `Family` except the text encoders and the network's own arguments."""

    name: str
    dtype: torch.dtype
    shift: Shift
    #: diffusers' transformer, which has no types
    transformer: Any
    loras: Loras
    controls: ControlNets
    #: A1111 has neither of these for flow models
    inversions: TextualInversions = field(default_factory=TextualInversions)
    hypernetworks: Hypernetworks = field(default_factory=Hypernetworks)
    is_compiled: bool = False

    @property
    def prediction(self) -> Prediction:
        return "v"

    @property
    def native_side(self) -> int:
        return 1024

    @property
    def side_multiple(self) -> int:
        return PATCH * self.vae_factor

    @property
    def edits(self) -> bool:
        return False

    @property
    def configuration(self) -> str | None:
        return self.name

    @property
    def inpaints(self) -> bool:
        return False

    @property
    def distilled(self) -> bool:
        return False

    @property
    def most_patches(self) -> int | None:
        """The most patches that it has positions for, along each side; None: any number."""
        return None

    def levels(self, latent_size: tuple[int, int]) -> FlowLevels:
        """As in `Family`; sides that are no multiples of a patch are refused, as by diffusers' SD 3."""
        height, width = latent_size
        cells = self.most_patches and self.most_patches * PATCH
        if height % PATCH or width % PATCH or (cells and max(latent_size) > cells):
            limit = f" up to {cells * self.vae_factor}" if cells else ""
            reason = f"checkpoints of {self.name} need multiples of {PATCH * self.vae_factor}{limit}"
            raise Refused("width, height", (width * self.vae_factor, height * self.vae_factor), reason)
        return flow_levels(self.shift.at(height // PATCH * (width // PATCH)))

    def picture(
        self,
        pixels: Tensor,
        masks: Tensor | None,
        *,
        mask_round: bool = True,
        mask_weight: float = 1.0,
        tiling: bool = False,
        rows: int | None = None,
        vae: VaeFile | None = None,
    ) -> Steps[Tensor | None]:
        return without_steps(None)

    def condition(
        self,
        text: Encoded,
        params: Params,
        *,
        picture: Tensor | None = None,
        patch: Patch = NO_PATCH,
        hypernetworks: HypernetworkSet = NO_HYPERNETWORKS,
    ) -> Condition:
        """As in `Family`. Text and picture attend to each other, so a call's contexts have one length."""
        if params.token_merging_ratio:
            reason = "leave it out, or use a checkpoint of SD 1.x, 2.x or XL"
            raise Refused("token_merging_ratio", params.token_merging_ratio, reason)
        tensors = {"context": text.context.to(self.dtype)}
        if text.pooled is not None:
            tensors["pooled"] = text.pooled.to(self.dtype)
        return Condition(tensors=tensors, patch=patch, shares=(patch.merged, len(text.context)))

    @torch.inference_mode()
    def predict(self, x: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """As in `Family`: from the variance-preserving latent that plans scale to, to its velocity.

        With r² = (1 - f)² + f², this latent is x / r, and its velocity ``((1 - f) noise - f x0) / r``.
        """
        self.loras.denoiser.apply(conditions.patch, conditions.row_patches)
        share = (t / _STEPS)[:, None, None, None]
        radius = ((1 - share) ** 2 + share**2).sqrt()
        velocity = self.velocity((x * radius).to(self.dtype), t, conditions).float()
        return (1 - 2 * share) * x + radius * velocity

    @abstractmethod
    def velocity(self, x: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """The network's prediction ``noise - x0``, [R, C, h, w], for the flow's x and timesteps 0..1000."""

    def free_memory(self) -> None:
        return  # all that it has is needed
