"""Runs control networks for the rows of a model call that have them, and adds up their residuals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from img2img_worker.models.control.networks import ControlNetwork
from img2img_worker.models.families.context_runs import Run, as_context, runs_of
from img2img_worker.models.transfer import to_device


class Region:
    """The mask of where a control network or image prompt acts: uint8 [H, W] of any size, 255 where it does.

    It is scaled on the CPU, once per size: it may be much larger than the render.
    """

    def __init__(self, mask: Tensor) -> None:
        self._mask = mask
        self._scaled: dict[tuple[int, ...], Tensor] = {}

    def at(self, size: tuple[int, ...], like: Tensor) -> Tensor:
        """The mask [1, h, w], from 0 to 1, with the type and device of `like`."""
        if size not in self._scaled:
            mask = self._mask[None, None].float() / 255
            scaled = F.interpolate(mask, size=size, mode="bilinear")[0]
            self._scaled[size] = scaled.to(device=like.device, dtype=like.dtype)
        return self._scaled[size]


@dataclass(frozen=True, kw_only=True, eq=False)
class RowControl:
    """A control network as one row of a model call uses it."""

    network: ControlNetwork
    #: what its `see` gave for the control picture
    seen: tuple[Tensor, ...]
    #: what its residuals are multiplied by; residuals without a scale are left out
    scales: tuple[float, ...]
    #: where it acts; None: everywhere
    region: Region | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ControlRows:
    """The rows of a call that one network runs for, each row once."""

    network: ControlNetwork
    #: [n] their places in the call
    rows: Tensor
    #: stacked, [n, ...]
    seen: tuple[Tensor, ...]
    #: [n, residuals]
    scales: Tensor
    regions: tuple[Region | None, ...]
    #: the rows' text contexts
    runs: tuple[Run, ...]

    @classmethod
    def of(cls, rows: Sequence[Sequence[RowControl]], contexts: Sequence[Tensor]) -> tuple[Self, ...]:
        """Groups the controls of a call's rows by network.

        A network that a row has twice is in two groups. Their order does not depend on a row's neighbours.

        Args:
            contexts: the text context of each row.
        """
        entries: dict[tuple[str, int], list[tuple[int, RowControl]]] = {}
        for place, controls in enumerate(rows):
            met: dict[str, int] = {}
            for control in controls:
                key = control.network.key
                met[key] = met.get(key, 0) + 1
                entries.setdefault((key, met[key]), []).append((place, control))
        return tuple(cls._of(entries[key], contexts) for key in sorted(entries))

    @classmethod
    def _of(cls, members: Sequence[tuple[int, RowControl]], contexts: Sequence[Tensor]) -> Self:
        places, controls = zip(*members, strict=True)
        stacked = tuple(torch.stack(parts) for parts in zip(*(each.seen for each in controls), strict=True))
        index = to_device(torch.tensor(places), stacked[0].device)
        n = max(len(each.scales) for each in controls)
        scales = [[*each.scales, *[0.0] * (n - len(each.scales))] for each in controls]
        return cls(
            network=controls[0].network,
            rows=index,
            seen=stacked,
            scales=to_device(torch.tensor(scales), stacked[0].device),
            regions=tuple(each.region for each in controls),
            runs=runs_of([contexts[place] for place in places]),
        )

    def residuals(self, x: Tensor, t: Tensor, added: Mapping[str, Tensor] | None) -> list[Tensor]:
        """The scaled residuals, each [n, c, h, w].

        Args:
            x, t, added: of all rows of the call.
        """
        x, t = x.index_select(0, self.rows), t.index_select(0, self.rows)
        if added is not None:
            added = {name: each.index_select(0, self.rows) for name, each in added.items()}
        found = self.network.residuals(x, t, as_context(self.runs), added, self.seen)
        # residuals without a scale are multiplied by 0
        scales = F.pad(self.scales, (0, len(found) - self.scales.shape[1])).T
        scaled = [
            self._in_regions(each * scale.to(each.dtype)[:, None, None, None])
            for each, scale in zip(found, scales, strict=True)
        ]
        if self.network.is_pooled:
            return [each.mean(dim=(2, 3), keepdim=True).expand_as(each) for each in scaled]
        return scaled

    def _in_regions(self, residual: Tensor) -> Tensor:
        if all(region is None for region in self.regions):
            return residual
        size = residual.shape[-2:]
        masks = [
            residual.new_ones(1, *size) if region is None else region.at(tuple(size), residual)
            for region in self.regions
        ]
        return residual * torch.stack(masks)


def unet_arguments(
    controls: Sequence[ControlRows], x: Tensor, t: Tensor, added: Mapping[str, Tensor] | None
) -> dict[str, Any]:
    """The residuals as arguments of diffusers' UNet: sums over networks, zeros for rows without control.

    Args:
        x, t, added: as the networks take them, of all rows of the call.
    """
    kept: list[Tensor] = []
    down: list[Tensor] = []
    for each in controls:
        _add(down if each.network.is_adapter else kept, each.residuals(x, t, added), each.rows, len(x))
    arguments: dict[str, Any] = {}
    if kept:
        arguments |= {
            "down_block_additional_residuals": tuple(kept[:-1]),
            "mid_block_additional_residual": kept[-1],
        }
    if down:  # a list, from which the UNet pops one after the other
        arguments["down_intrablock_additional_residuals"] = down
    return arguments


def _add(totals: list[Tensor], residuals: Sequence[Tensor], rows: Tensor, n_rows: int) -> None:
    for number, residual in enumerate(residuals):
        if number == len(totals):
            totals.append(residual.new_zeros(n_rows, *residual.shape[1:]))
        totals[number].index_add_(0, rows, residual)
