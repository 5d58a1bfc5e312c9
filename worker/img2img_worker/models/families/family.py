"""What the engine knows of a checkpoint: one interface for every family of models."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from img2img_shared.params import Params
from img2img_worker.models.adapters.hypernetworks import NO_HYPERNETWORKS, Hypernetworks, HypernetworkSet
from img2img_worker.models.adapters.lora import Loras
from img2img_worker.models.adapters.patch import NO_PATCH, Patch
from img2img_worker.models.control.control_nets import ControlNets
from img2img_worker.models.families.condition import Condition, Conditions
from img2img_worker.models.families.vae import Decoded
from img2img_worker.models.families.vaes import VaeFile, Vaes
from img2img_worker.models.prompts.prompt_options import DEFAULTS, PromptOptions
from img2img_worker.models.prompts.text_encoder import Encoded
from img2img_worker.models.prompts.textual_inversion import TextualInversions
from img2img_worker.models.steps import Steps
from img2img_worker.sampling.levels import NoiseLevels

#: what the network's answer is: the noise, or the velocity sqrt(abar)·noise - sqrt(1 - abar)·x0
Prediction = Literal["epsilon", "v"]


@dataclass(frozen=True, kw_only=True)
class GuidanceRow:
    """One row of an image's model call, and its share of the guided answer."""

    condition: Condition
    weight: float


class Family(Protocol):
    """A loaded checkpoint. Its methods are called from one thread, but for `levels`; none keeps state.

    Pictures are uint8 RGB [B, H, W, 3]. With `tiling`, convolutions wrap around at the edges. `rows` in
    `encode`, `picture` and `decode` fixes the batch that the network sees: fewer pictures are padded to it,
    more are cut into pieces of it. With a constant `rows`, a picture's bits do not depend on what else is in
    the batch.
    """

    @property
    def name(self) -> str:
        """What it is, for people: "SD 1.x", "SDXL inpainting", ..."""

    @property
    def device(self) -> torch.device:
        """Where the tensors it takes and returns live."""

    @property
    def dtype(self) -> torch.dtype:
        """The network's own precision; latents are float32 all the same."""

    @property
    def latent_channels(self) -> int:
        """C of a latent [C, h, w]."""

    @property
    def vae_factor(self) -> int:
        """Pixels to a latent cell, each way."""

    @property
    def native_side(self) -> int:
        """Pixels of a side of the squares that it was trained on."""

    @property
    def side_multiple(self) -> int:
        """Pixels that the sides of its pictures are multiples of."""

    @property
    def prediction(self) -> Prediction:
        """How `predict`'s answer is to be read."""

    @property
    def is_compiled(self) -> bool:
        """Whether its denoiser runs as graphs, each for one number of rows."""

    @property
    def edits(self) -> bool:
        """Whether `image_cfg_scale` has a meaning (instruct-pix2pix)."""

    @property
    def configuration(self) -> str | None:
        """What A1111 would read its network's form from; None: a file of its own."""

    @property
    def inpaints(self) -> bool:
        """Whether it was trained to see a mask and what that leaves (9 channels)."""

    @property
    def distilled(self) -> bool:
        """Whether `distilled_cfg_scale` has a meaning (Flux.1 dev)."""

    @property
    def loras(self) -> Loras:
        """What can be added to its weights; finding one is a thing that other threads may do."""

    @property
    def hypernetworks(self) -> Hypernetworks:
        """What can come before its keys and values; finding one is a thing that other threads may do."""

    @property
    def inversions(self) -> TextualInversions:
        """The textual inversions that prompts may name."""

    @property
    def vaes(self) -> Vaes:
        """What its images may go through; finding it is a thing that other threads may do."""

    @property
    def controls(self) -> ControlNets:
        """The control networks that renders may name; finding one is a thing that other threads may do."""

    def levels(self, latent_size: tuple[int, int]) -> NoiseLevels:
        """The noise levels it was trained on: the same object for the same size.

        Args:
            latent_size: (h, w) of the latents.

        Raises:
            Refused: it knows no such size.
        """

    def encode_prompts(
        self,
        prompts: Sequence[str],
        *,
        options: PromptOptions = DEFAULTS,
        negative: bool = False,
        loras: Patch = NO_PATCH,
    ) -> Steps[list[Encoded]]:
        """Embeddings of each prompt, which may carry weights, but neither editing nor ``AND``.

        Depends on nothing else but `inversions`, so it can be cached by (prompt, options, negative, loras).

        Args:
            negative: SDXL replaces an empty negative prompt by zeros.
            loras: what is added to the text encoders.
        """

    def context_length(self, prompts: Sequence[str], options: PromptOptions) -> int:
        """Tokens of each context that `encode_prompts` makes of them; thread-safe."""

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
        """What the checkpoint wants to see of the init image, [B, c, h, w] or None, in steps.

        Args:
            pixels: uint8 [B, H, W, 3].
            masks: uint8 [B, H, W], 255 = repaint; None: everything is.
            mask_weight: how much of what is repainted it does not get to see.
            vae: what encodes it, out of `vaes`; A1111 takes no TAESD for that.
        """

    def condition(
        self,
        text: Encoded,
        params: Params,
        *,
        picture: Tensor | None = None,
        patch: Patch = NO_PATCH,
        hypernetworks: HypernetworkSet = NO_HYPERNETWORKS,
    ) -> Condition:
        """What a row of one image's model calls is conditioned on.

        Args:
            picture: the image's row of `picture`, [c, h, w], at the latent's size.
            patch: what its LoRAs add to the denoiser.

        Raises:
            Refused: parameters that mean nothing to this kind of checkpoint.
        """

    def encode(
        self, pixels: Tensor, *, tiling: bool = False, rows: int | None = None, vae: VaeFile | None = None
    ) -> Tensor:
        """uint8 [B, H, W, 3] to float32 latents [B, C, h, w]: the posterior's mean, scaled.

        Args:
            vae: out of `vaes`; None: the one that was loaded with the checkpoint.
        """

    def encode_steps(
        self, pixels: Tensor, *, tiling: bool = False, rows: int | None = None, vae: VaeFile | None = None
    ) -> Steps[Tensor]:
        """As `encode`, in steps between which its other methods may be called: large pictures take long."""

    def predict(self, x: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """The network's raw answer, float32 [R, C, h, w]; nothing in it waits for the device.

        Args:
            x: latents already multiplied by the plan's ``scale_in``, float32 [R, C, h, w].
            t: timesteps, float32 [R], fractions allowed.
            conditions: of rows whose `Condition.shares` are equal.
        """

    def give_back(self) -> None:
        """Gives back what memory of the device it can do without."""

    def decode(
        self, latents: Tensor, *, tiling: bool = False, rows: int | None = None, vae: VaeFile | None = None
    ) -> Decoded:
        """float32 [B, C, h, w] to pictures on the device: clamped, times 255, truncated."""

    def decode_steps(
        self,
        latents: Tensor,
        *,
        tiling: bool = False,
        rows: int | None = None,
        vae: VaeFile | None = None,
        full_precision: bool = False,
    ) -> Steps[Decoded]:
        """As `decode`, in steps between which its other methods may be called; nothing waits for the device.

        Args:
            full_precision: in float32, since it overflowed in half precision (`Decoded.is_half`).
        """


def guide(
    positives: Sequence[tuple[Condition, float]],
    negative: Condition,
    *,
    scale: float,
    image_scale: float | None = None,
) -> list[GuidanceRow]:
    """The rows that one image needs; the guided answer is the sum of weight times answer.

    Classifier-free guidance ``u + scale·Σ w_i (c_i - u)`` (Ho and Salimans 2022, composed as in Liu et al.
    2022), and with `image_scale` InstructPix2Pix's (Brooks et al. 2023), whose third row sees neither
    prompt nor picture: ``z + scale·(c - p) + image_scale·(p - z)``. Rows of no weight are left out,
    so a scale of 1 runs no negative row.

    Args:
        positives: (condition, weight) of each part of an ``AND`` prompt.
        image_scale: only for a family that `edits`; 1 is the plain rule.
    """
    rows = [GuidanceRow(condition=condition, weight=scale * weight) for condition, weight in positives]
    rest = 1.0 if image_scale is None else image_scale
    rows.append(GuidanceRow(condition=negative, weight=rest - sum(row.weight for row in rows)))
    if image_scale is not None and "concat" in negative.tensors:
        unseen = torch.zeros_like(negative.tensors["concat"])
        blind = replace(negative, tensors={**negative.tensors, "concat": unseen})
        rows.append(GuidanceRow(condition=blind, weight=1.0 - image_scale))
    return [row for row in rows if row.weight != 0] or rows[:1]
