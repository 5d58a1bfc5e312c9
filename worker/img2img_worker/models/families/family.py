"""The engine's view of a checkpoint: one interface for all families of models."""

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

#: what the network predicts: the noise, or the velocity sqrt(abar)·noise - sqrt(1 - abar)·x0
Prediction = Literal["epsilon", "v"]


@dataclass(frozen=True, kw_only=True)
class GuidanceRow:
    """One row of an image's model call, and its weight in the guided answer."""

    condition: Condition
    weight: float


class Family(Protocol):
    """A loaded checkpoint.

    Only the engine's thread may call its methods, except `levels`, `context_length`, and what finds files in
    `loras`, `hypernetworks`, `inversions`, `vaes` and `controls`, which are thread-safe.

    Pictures are uint8 RGB [B, H, W, 3]. With `tiling`, convolutions wrap around at the edges. `rows` in
    `encode`, `picture` and `decode` fixes the batch size that the network sees: fewer pictures are padded to
    it, more are split. With a constant `rows`, a picture's bits do not depend on what else is in the batch.
    """

    @property
    def name(self) -> str:
        """The family's name, for people: "SD 1.x", "SDXL inpainting", ..."""

    @property
    def device(self) -> torch.device:
        """The device of the tensors that it takes and returns."""

    @property
    def dtype(self) -> torch.dtype:
        """The denoiser's precision; latents are float32 all the same."""

    @property
    def latent_channels(self) -> int:
        """C of a latent [C, h, w]."""

    @property
    def vae_factor(self) -> int:
        """Pixels per latent cell, along each side."""

    @property
    def native_side(self) -> int:
        """Width and height in pixels of the squares that it was trained on."""

    @property
    def side_multiple(self) -> int:
        """The number of pixels of which its pictures' sides must be multiples."""

    @property
    def prediction(self) -> Prediction:
        """What `predict` returns."""

    @property
    def is_compiled(self) -> bool:
        """Whether its denoiser is compiled, for certain numbers of rows."""

    @property
    def edits(self) -> bool:
        """Whether `image_cfg_scale` has a meaning (instruct-pix2pix)."""

    @property
    def configuration(self) -> str | None:
        """Names the file from which A1111 would read the network's architecture; None: one of its own.

        Checkpoints with the same one are alike to A1111, which then keeps the network and what is patched in.
        """

    @property
    def inpaints(self) -> bool:
        """Whether it is an inpainting checkpoint: its 9 channels include the mask and the masked picture."""

    @property
    def distilled(self) -> bool:
        """Whether `distilled_cfg_scale` has a meaning (Flux.1 dev)."""

    @property
    def loras(self) -> Loras:
        """The LoRAs that prompts may name."""

    @property
    def hypernetworks(self) -> Hypernetworks:
        """The hypernetworks that prompts may name."""

    @property
    def inversions(self) -> TextualInversions:
        """The textual inversions that prompts may name."""

    @property
    def vaes(self) -> Vaes:
        """The VAEs that images may use in place of the checkpoint's own."""

    @property
    def controls(self) -> ControlNets:
        """The control networks that renders may name."""

    def levels(self, latent_size: tuple[int, int]) -> NoiseLevels:
        """The noise levels that it was trained on; the same object for the same size.

        Args:
            latent_size: (h, w) of the latents.

        Raises:
            Refused: it cannot render pictures of this size.
        """

    def encode_prompts(
        self,
        prompts: Sequence[str],
        *,
        options: PromptOptions = DEFAULTS,
        negative: bool = False,
        loras: Patch = NO_PATCH,
    ) -> Steps[list[Encoded]]:
        """The embedding of each prompt. Prompts may have weights, but neither editing nor ``AND``.

        The result depends on the arguments and `inversions` only, so it can be cached by these.

        Args:
            negative: they are negative prompts: SDXL has zeros for an empty one.
            loras: the patch of the text encoders.
        """

    def context_length(self, prompts: Sequence[str], options: PromptOptions) -> int:
        """The number of tokens that `encode_prompts` gives each of these prompts; thread-safe."""

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
        """The further input channels of an inpainting or edit checkpoint, from the init image, in steps.

        Args:
            pixels: [B, H, W, 3], uint8 or float32 of the same scale.
            masks: uint8 [B, H, W], 255 = repaint; None: repaint everything.
            mask_round: round the mask to 0 and 1.
            mask_weight: 0..1, how much of the repainted part is hidden from it.
            vae: of `vaes`, encodes the picture; as in A1111, never TAESD.

        Returns:
            [B, c, h, w]; None: this checkpoint takes the latent only.
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
        """The condition of a row of one image's model calls.

        Args:
            text: of `encode_prompts`.
            picture: the image's row of what `picture` gave, [c, h, w], at the latent's size.
            patch: what the image's LoRAs add to the denoiser.

        Raises:
            Refused: a parameter has no meaning for this family.
        """

    def encode(
        self, pixels: Tensor, *, tiling: bool = False, rows: int | None = None, vae: VaeFile | None = None
    ) -> Tensor:
        """Pictures uint8 [B, H, W, 3] to latents float32 [B, C, h, w]: the posterior's mean, scaled.

        Args:
            vae: of `vaes`; None: the one that was loaded with the checkpoint.
        """

    def encode_steps(
        self, pixels: Tensor, *, tiling: bool = False, rows: int | None = None, vae: VaeFile | None = None
    ) -> Steps[Tensor]:
        """As `encode`, in steps between which other methods may be called, since large pictures take long."""

    def predict(self, x: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """The network's prediction, float32 [R, C, h, w]; nothing in it waits for the device.

        Args:
            x: latents, multiplied by the plan's ``scale_in``, float32 [R, C, h, w].
            t: timesteps, float32 [R]; fractions are allowed.
            conditions: of rows whose `Condition.shares` are equal.
        """

    def free_memory(self) -> None:
        """Free the device's memory that it can do without."""

    def decode(
        self, latents: Tensor, *, tiling: bool = False, rows: int | None = None, vae: VaeFile | None = None
    ) -> Decoded:
        """Latents float32 [B, C, h, w] to pictures on the device: clamped, times 255, truncated."""

    def decode_steps(
        self,
        latents: Tensor,
        *,
        tiling: bool = False,
        rows: int | None = None,
        vae: VaeFile | None = None,
        full_precision: bool = False,
    ) -> Steps[Decoded]:
        """As `decode`, in steps between which other methods may be called; nothing waits for the device.

        Args:
            full_precision: in float32, because half precision overflowed (`Decoded.is_half`).
        """


def guide(
    positives: Sequence[tuple[Condition, float]],
    negative: Condition,
    *,
    scale: float,
    image_scale: float | None = None,
) -> list[GuidanceRow]:
    """The rows of one image's model call; the guided answer is the sum of each row's weight times its answer.

    Classifier-free guidance ``u + scale·Σ w_i (c_i - u)`` (Ho and Salimans 2022, composed as in Liu et al.
    2022), and with `image_scale` InstructPix2Pix's (Brooks et al. 2023), whose third row sees neither
    prompt nor picture: ``z + scale·(c - p) + image_scale·(p - z)``. Rows of weight 0 are left out, so a scale
    of 1 has no negative row.

    Args:
        positives: (condition, weight) of each part of an ``AND`` prompt.
        image_scale: only for a family that `edits`; with 1 it has no effect.
    """
    rows = [GuidanceRow(condition=condition, weight=scale * weight) for condition, weight in positives]
    rest = 1.0 if image_scale is None else image_scale
    rows.append(GuidanceRow(condition=negative, weight=rest - sum(row.weight for row in rows)))
    if image_scale is not None and "concat" in negative.tensors:
        unseen = torch.zeros_like(negative.tensors["concat"])
        blind = replace(negative, tensors={**negative.tensors, "concat": unseen})
        rows.append(GuidanceRow(condition=blind, weight=1.0 - image_scale))
    return [row for row in rows if row.weight != 0] or rows[:1]
