"""ControlNets for transformers (SD 3, Flux), whose residuals are added after the transformer's blocks.

The control picture is encoded by the VAE, as an init image is, into a latent of the render's size; XLabs'
networks for Flux have layers of their own for that. Source: diffusers'
``StableDiffusion3ControlNetPipeline`` and ``FluxControlNetPipeline``.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2img_shared.control import ControlUnit, UnionType
from img2img_shared.errors import Refused
from img2img_worker.models.control.networks import n_bytes
from img2img_worker.models.families.patches import PATCH, exact_numbers, pack_patches, positions
from img2img_worker.models.families.vae import Vae
from img2img_worker.models.steps import Steps
from img2img_worker.models.transfer import to_device

#: the kinds of control picture in the order of their numbers in Flux' union networks (InstantX, Shakker Labs)
FLUX_UNION_TYPES: tuple[UnionType, ...] = (
    "Hard Edge",
    "Tile",
    "Depth",
    "Blur",
    "OpenPose",
    "Gray",
    "Low Quality",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowControlNet(ABC):
    """What ControlNets of both families have in common; each implements `ControlNetwork`."""

    key: str
    network: Any
    #: encodes control pictures
    vae: Vae
    is_pooled: bool = False
    is_adapter: bool = False
    kinds: tuple[UnionType, ...] = ()

    @property
    def n_bytes(self) -> int:
        return n_bytes(self.network)

    @property
    def soft_scales(self) -> tuple[float, ...]:
        """All 1: soft scales are defined for UNets only, and `check` refuses the modes that use them."""
        return (1.0,) * self.n_residuals

    @property
    @abstractmethod
    def n_residuals(self) -> int:
        """Number of residuals that it makes for the blocks of its transformer."""

    @property
    def sees_masks(self) -> bool:
        """Whether it was trained to repaint what is masked."""
        return False

    @property
    def most_patches(self) -> int | None:
        """Most patches along a side that it has positions for; None: no limit."""
        return None

    @abstractmethod
    def behind(self, kind: int, block: int, n_blocks: int) -> int | None:
        """The number of the residual that is added after a block of its transformer; None: none is.

        Args:
            kind: of block, by its number (Flux: 0 double, 1 single); the transformer has `n_blocks` of it.
        """

    def for_kind(self, kind: UnionType) -> Self:  # noqa: ARG002 (it has no kinds)
        return self

    def check(self, unit: ControlUnit, cells: tuple[int, int]) -> None:
        """
        Args:
            cells: (h, w) of the latent.

        Raises:
            Refused: the unit asks for something that this network cannot do.
        """
        if unit.control_mode != "Balanced":
            reason = (
                "networks for SD 3 and Flux have no such modes; leave it out and set weight, "
                "or a weight for each residual (advanced_weighting)"
            )
            raise Refused("control.control_mode", unit.control_mode, reason)
        if unit.preprocessor.amends:
            other = "tile_resample" if "colorfix" in unit.module else "inpaint_global_harmonious"
            reason = f"it works with SD 1, 2 and XL only; use {other}"
            raise Refused("control.module", unit.module, reason)
        if unit.preprocessor.inpaints != self.sees_masks:
            reason = (
                "this network repaints what is masked; use inpaint_global_harmonious and a mask"
                if self.sees_masks
                else "this network sees no masks; use one for inpainting, or another module"
            )
            raise Refused("control.module", unit.module, reason)
        if self.most_patches is not None and max(cells) > PATCH * self.most_patches:
            side = PATCH * self.most_patches * self.vae.factor
            size = tuple(each * self.vae.factor for each in reversed(cells))
            raise Refused("width, height", size, f"this control network takes sides of up to {side}")


@dataclass(frozen=True, kw_only=True, eq=False)
class SD3ControlNet(FlowControlNet):
    """diffusers' SD3ControlNetModel."""

    #: whether its latents are shifted as the VAE's are
    shifts: bool
    #: whether it gets the pooled text embedding, or zeros in its place
    takes_pooled_text: bool
    #: factor and summand that turn a picture's values from 0 to 1 into the VAE's input
    levels: tuple[float, float]

    @property
    def n_residuals(self) -> int:
        return len(self.network.controlnet_blocks)

    @property
    def sees_masks(self) -> bool:
        return bool(self.network.config.extra_conditioning_channels)

    @property
    def most_patches(self) -> int | None:
        return int(self.network.pos_embed.pos_embed_max_size)

    def behind(self, kind: int, block: int, n_blocks: int) -> int | None:  # noqa: ARG002 (there is one)
        return int(block / (n_blocks / self.n_residuals))

    def see(self, picture: Tensor, mask: Tensor | None) -> Steps[tuple[Tensor, ...]]:
        factor, summand = self.levels
        image = picture * factor + summand
        if mask is None:
            mean = yield from self.vae.mean(image[None], None)
            return (self.vae.scaled(mean, shifts=self.shifts)[0].to(self.network.dtype),)
        mean = yield from self.vae.mean(torch.where(mask > 0, -1.0, image)[None], None)
        latent = self.vae.scaled(mean, shifts=self.shifts)
        kept = 1 - F.interpolate(mask[None], size=latent.shape[-2:])
        return (torch.cat([latent, kept], dim=1)[0].to(self.network.dtype),)

    def residuals(
        self,
        x: Tensor,
        t: Tensor,
        context: Any,
        added: Mapping[str, Tensor] | None,
        seen: Sequence[Tensor],
    ) -> Sequence[Tensor]:
        pooled = (added or {})["pooled"]
        (found,) = self.network(
            x,
            controlnet_cond=seen[0],
            timestep=t,
            encoder_hidden_states=context if self.network.context_embedder is not None else None,
            pooled_projections=pooled if self.takes_pooled_text else torch.zeros_like(pooled),
            return_dict=False,
        )
        return [_as_picture(each, x) for each in found]


@dataclass(frozen=True, kw_only=True, eq=False)
class FluxControlNet(FlowControlNet):
    """diffusers' FluxControlNetModel."""

    #: its encoder of control pictures, taken out of `network`; None: it takes latents of the VAE
    hint_encoder: nn.Module | None
    #: the index in `kinds` of the kind that it gets
    kind: int = 0

    @classmethod
    def of(cls, network: Any, *, key: str, vae: Vae) -> Self:
        hint_encoder, network.input_hint_block = network.input_hint_block, None
        kinds = FLUX_UNION_TYPES[: network.config.num_mode] if network.union else ()
        return cls(key=key, network=network, vae=vae, hint_encoder=hint_encoder, kinds=kinds)

    @property
    def n_bytes(self) -> int:
        return n_bytes(self.network, *(() if self.hint_encoder is None else (self.hint_encoder,)))

    @property
    def n_residuals(self) -> int:
        return self._n_double + len(self.network.controlnet_single_blocks)

    @property
    def _n_double(self) -> int:
        return len(self.network.controlnet_blocks)

    def behind(self, kind: int, block: int, n_blocks: int) -> int | None:
        first, n = (self._n_double, self.n_residuals - self._n_double) if kind else (0, self._n_double)
        if n == 0:
            return None
        # XLabs' residuals are repeated in turn, the others stretched over the blocks
        repeats = self.hint_encoder is not None and not kind
        return first + (block % n if repeats else block // ceil(n_blocks / n))

    def for_kind(self, kind: UnionType) -> Self:
        # one call may have rows of several kinds, so `see` gives the kind along with the picture
        return replace(self, kind=self.kinds.index(kind))

    def see(self, picture: Tensor, mask: Tensor | None) -> Steps[tuple[Tensor, ...]]:  # noqa: ARG002 (see `check`)
        image = (picture * 2 - 1)[None]
        dtype = self.network.dtype
        if self.hint_encoder is None:
            seen = yield from self.vae.encode(image, None)
        else:
            seen = self.hint_encoder(image.to(dtype))
        tokens = pack_patches(seen)[0].to(dtype)
        return (tokens, to_device(torch.tensor([self.kind]), tokens.device)) if self.kinds else (tokens,)

    def residuals(
        self,
        x: Tensor,
        t: Tensor,
        context: Any,
        added: Mapping[str, Tensor] | None,
        seen: Sequence[Tensor],
    ) -> Sequence[Tensor]:
        given = added or {}
        guidance = given["guidance"] if self.network.config.guidance_embeds else None
        numbers = (t,) if guidance is None else (t, 1000 * guidance)
        with exact_numbers(self.network.time_text_embed, numbers):
            double, single = self.network(
                hidden_states=pack_patches(x),
                controlnet_cond=seen[0],
                controlnet_mode=seen[1] if self.kinds else None,
                timestep=t / 1000,
                guidance=guidance,
                pooled_projections=given["pooled"],
                encoder_hidden_states=context,
                txt_ids=torch.zeros(context.shape[-2], 3, device=x.device),
                img_ids=positions(x.shape[-2] // PATCH, x.shape[-1] // PATCH, x.device),
                return_dict=False,
            )
        return [_as_picture(each, x) for each in (*(double or ()), *(single or ()))]


def _as_picture(tokens: Tensor, x: Tensor) -> Tensor:
    """Tokens [n, h/2 · w/2, d] of latents [n, C, h, w] as [n, d, h/2, w/2]."""
    height, width = (side // PATCH for side in x.shape[-2:])
    return tokens.transpose(1, 2).view(len(tokens), -1, height, width)
