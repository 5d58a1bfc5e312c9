"""Control networks: ControlNets and T2I-Adapters, whose residuals are added to the UNet's features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2img_shared.control import UNION_TYPES, UnionType
from img2img_shared.errors import Refused, Summary
from img2img_worker.models.steps import Steps, without_steps

#: with a soft control mode, a ControlNet's residual is multiplied by this once for each residual after it
SOFT = 0.825
#: with a soft control mode, what a T2I-Adapter's features are multiplied by, finest first
SOFT_ADAPTER = (0.25, 0.62, 0.825, 1.0)


class ControlNetwork(Protocol):
    """A loaded control network. Not thread-safe: only the engine's thread calls its methods."""

    @property
    def network(self) -> nn.Module:
        """The module that it runs."""

    @property
    def key(self) -> str:
        """A name that no other network has; a model call runs its networks in the order of these."""

    @property
    def n_bytes(self) -> int:
        """Bytes of its weights in the device's memory."""

    @property
    def soft_scales(self) -> tuple[float, ...]:
        """What its residuals are multiplied by with a control mode other than "Balanced"."""

    @property
    def is_pooled(self) -> bool:
        """Whether its residuals are averaged over the picture and left out of negative rows ("shuffle")."""

    @property
    def is_adapter(self) -> bool:
        """Whether residuals are added in the UNet's down blocks, and not to its skip connections."""

    @property
    def kinds(self) -> tuple[UnionType, ...]:
        """The kinds of control picture of a union network, which must be told which it gets; else empty."""

    def for_kind(self, kind: UnionType) -> Self:
        """The same network for pictures of one of its `kinds`."""

    def see(self, picture: Tensor, mask: Tensor | None) -> Steps[tuple[Tensor, ...]]:
        """Encode a control picture, float [3, H, W] from 0 to 1: once per render, not per step.

        Args:
            mask: [1, H, W], 1 where the picture is repainted, else 0; None: there is none.
        """

    def residuals(
        self,
        x: Tensor,
        t: Tensor,
        context: Any,
        added: Mapping[str, Tensor] | None,
        seen: Sequence[Tensor],
    ) -> Sequence[Tensor]:
        """The residuals of n rows, each [n, c, h, w].

        Args:
            x: the UNet's input, without the channels of an inpainting model's mask and picture.
            t: timesteps [n].
            context: the UNet's text context.
            added: the further conditions of SDXL's UNet, by diffusers' names.
            seen: what `see` gave for the rows, stacked.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class ControlNet:
    """diffusers' ControlNetModel: a UNet's encoder that also sees a picture (Zhang et al. 2023)."""

    key: str
    network: Any
    #: the encoder of control pictures, taken out of `network` so that it runs once per render
    hint_encoder: nn.Module
    is_pooled: bool = False
    is_adapter: bool = False
    kinds: tuple[UnionType, ...] = ()

    @classmethod
    def of(cls, network: Any, *, key: str, is_pooled: bool) -> Self:
        hint_encoder, network.controlnet_cond_embedding = network.controlnet_cond_embedding, nn.Identity()
        return cls(key=key, network=network, hint_encoder=hint_encoder, is_pooled=is_pooled)

    @property
    def n_bytes(self) -> int:
        return n_bytes(self.network, self.hint_encoder)

    @property
    def soft_scales(self) -> tuple[float, ...]:
        n = len(self.network.controlnet_down_blocks) + 1
        # 12 for SDXL too, although it has ten residuals, as in the extension: so its last ones stay below 1
        return tuple(SOFT ** (12 - i) for i in range(n))

    def for_kind(self, kind: UnionType) -> Self:
        return self

    def see(self, picture: Tensor, mask: Tensor | None) -> Steps[tuple[Tensor, ...]]:
        return without_steps(
            (self.hint_encoder(_mark_masked(picture, mask)[None].to(self.network.dtype))[0],)
        )

    def residuals(
        self,
        x: Tensor,
        t: Tensor,
        context: Any,
        added: Mapping[str, Tensor] | None,
        seen: Sequence[Tensor],
    ) -> Sequence[Tensor]:
        down, mid = self.network(
            x,
            t,
            encoder_hidden_states=context,
            controlnet_cond=seen[0],
            added_cond_kwargs=added,
            return_dict=False,
        )
        return [*down, mid]


@dataclass(frozen=True, kw_only=True, eq=False)
class UnionControlNet(ControlNet):
    """diffusers' ControlNetUnionModel: one network for several kinds of control picture."""

    #: the index in `kinds` of the kind that it gets
    kind: int = 0

    @classmethod
    def of(cls, network: Any, *, key: str, is_pooled: bool) -> Self:
        plain = super().of(network, key=key, is_pooled=is_pooled)
        return replace(plain, kinds=UNION_TYPES[: network.config.num_control_type])

    def for_kind(self, kind: UnionType) -> Self:
        # a call has one kind for all of its rows
        return replace(self, kind=self.kinds.index(kind), key=f"{self.key} {kind}")

    def residuals(
        self,
        x: Tensor,
        t: Tensor,
        context: Any,
        added: Mapping[str, Tensor] | None,
        seen: Sequence[Tensor],
    ) -> Sequence[Tensor]:
        kinds = x.new_zeros(len(x), self.network.config.num_control_type)
        kinds[:, self.kind] = 1
        down, mid = self.network(
            x,
            t,
            encoder_hidden_states=context,
            controlnet_cond=[seen[0]],
            control_type=kinds,
            control_type_idx=[self.kind],
            added_cond_kwargs=added,
            return_dict=False,
        )
        return [*down, mid]


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """diffusers' T2IAdapter: its features depend on the picture only, not on the latent (Mou et al. 2023)."""

    key: str
    network: Any
    #: for each feature, how often the latent has been halved where the UNet adds it
    halvings: tuple[int, ...]
    is_pooled: bool = False
    is_adapter: bool = True
    kinds: tuple[UnionType, ...] = ()

    @classmethod
    def of(cls, network: Any, *, key: str) -> "Adapter":
        is_xl = network.config.adapter_type == "full_adapter_xl"
        for block in network.adapter.body:
            if block.downsample is not None:
                block.downsample.ceil_mode = False  # as published, and as A1111 runs it
        levels = len(network.adapter.body)
        return cls(key=key, network=network, halvings=(1, 1, 2, 2) if is_xl else tuple(range(levels)))

    @property
    def n_bytes(self) -> int:
        return n_bytes(self.network)

    @property
    def soft_scales(self) -> tuple[float, ...]:
        return SOFT_ADAPTER

    def for_kind(self, kind: UnionType) -> Self:
        return self

    def see(self, picture: Tensor, mask: Tensor | None) -> Steps[tuple[Tensor, ...]]:
        height, width = picture.shape[-2:]
        return without_steps(self.see_for(picture, mask, (height // 8, width // 8)))

    def see_for(
        self, picture: Tensor, mask: Tensor | None, cells: tuple[int, int], region: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """`see`, for a latent of `cells` rows and columns, whatever the picture's size.

        Args:
            region: see `seen_by`. As in the extension, it is applied before the features are resized.
        """
        picture = _mark_masked(picture, mask)
        factor = self.network.config.downscale_factor
        if any(side % factor for side in picture.shape[-2:]):
            size = Summary(f"{picture.shape[-1]} × {picture.shape[-2]}")
            raise Refused("width, height", size, f"this adapter works with multiples of {factor}")
        if self.network.config.in_channels == 1:
            picture = picture[:1]
        features = [
            feature if region is None else feature * _scale_region(region, feature)
            for feature in self.network(picture[None].to(self.network.dtype))
        ]
        return tuple(
            F.interpolate(feature, size=[_halve(side, times) for side in cells])[0]
            for feature, times in zip(features, self.halvings, strict=True)
        )

    def residuals(
        self,
        x: Tensor,
        t: Tensor,
        context: Any,
        added: Mapping[str, Tensor] | None,
        seen: Sequence[Tensor],
    ) -> Sequence[Tensor]:
        return seen


def _halve(side: int, times: int) -> int:
    """`side` after that many convolutions of stride 2."""
    for _ in range(times):
        side = (side + 1) // 2
    return side


def _mark_masked(picture: Tensor, mask: Tensor | None) -> Tensor:
    """The picture with -1 where it is masked."""
    return picture if mask is None else picture * (1 - mask) - mask


def n_bytes(*networks: nn.Module) -> int:
    """Bytes of networks' weights in a device's memory."""
    return sum(tensor.nbytes for each in networks for tensor in (*each.parameters(), *each.buffers()))


@torch.inference_mode()
def seen_by(
    network: ControlNetwork,
    picture: Tensor,
    first_pass: Tensor | None = None,
    region: Tensor | None = None,
) -> Steps[tuple[Tensor, ...]]:
    """`see`, of a picture uint8 [H, W, 3], or [H, W, 4] with its mask.

    Args:
        first_pass: the control picture of a hires fix's first pass; a T2I-Adapter keeps it, as in A1111.
        region: where a T2I-Adapter acts, uint8 [H, W] of any size; residuals of others are limited later.
    """
    if isinstance(network, Adapter):
        cells = picture.shape[0] // 8, picture.shape[1] // 8
        return network.see_for(*_values(picture if first_pass is None else first_pass), cells, region)
    return (yield from network.see(*_values(picture)))


def _scale_region(region: Tensor, feature: Tensor) -> Tensor:
    mask = region[None, None].float() / 255
    return F.interpolate(mask, size=feature.shape[-2:], mode="bilinear").to(feature)


def _values(picture: Tensor) -> tuple[Tensor, Tensor | None]:
    values = picture.float().permute(2, 0, 1) / 255
    return values[:3], (values[3:] > 0.5).float() if len(values) == 4 else None
