"""LoRAs as products beside their layers: each row of a call has its own, and the weights are not changed.

``W x + s · up (down x)`` is ``(W + s · up · down) x`` to rounding (LoRA, Hu et al. 2021).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from img2img_worker.models.adapters.lora_keys import Layer
from img2img_worker.models.adapters.low_rank import Product
from img2img_worker.models.adapters.patch import Patch
from img2img_worker.models.families.edge_padding import pad_input
from img2img_worker.models.transfer import to_device

#: sum of ranks up to which a GPU computes all products of one shape for all rows
SIDE_BY_SIDE = 256

#: a product and its scale
_Scaled = tuple[Product, float]


@dataclass(frozen=True, eq=False)
class _Terms:
    """Products of one shape, for some rows of a call; a row may have several."""

    #: [m] of the call
    rows: Tensor
    products: Sequence[Product]
    #: [m]
    scales: Tensor

    def add(self, layer: Layer, x: Tensor, answer: Tensor) -> None:
        """Add the products to `answer` [R, ...], the output of `layer` for the input `x` [R, ...]."""
        x = x.index_select(0, self.rows)
        down = torch.stack([product.down for product in self.products])
        up = torch.stack([product.up for product in self.products])
        scales = self.scales[:, None, None]
        if isinstance(layer, nn.Conv2d):
            # rows become groups of channels, each with its own kernels
            grouped = _convolve(layer, x.flatten(0, 1)[None], down.flatten(0, 1), len(x))
            found = torch.bmm(up, grouped.reshape(len(x), down.shape[1], -1) * scales)
        else:
            tokens = x.reshape(len(x), -1, x.shape[-1])
            found = torch.bmm(torch.bmm(tokens, down.mT) * scales, up.mT)
        answer.index_add_(0, self.rows, found.view(len(x), *answer.shape[1:]))


@dataclass(frozen=True, eq=False)
class _SideBySide:
    """Products of one shape, so few that all are computed for all rows of a call, and each row takes its own.

    These are few large matrix products, which suit a GPU; `_Terms` has many small ones, and copies of rows.
    """

    #: [k, in, *kernel] and [out, k], of k ranks in all
    down: Tensor
    up: Tensor
    #: [R, k]; 0 where a row does not have that product
    scales: Tensor

    def add(self, layer: Layer, x: Tensor, answer: Tensor) -> None:
        """As `_Terms.add`."""
        if isinstance(layer, nn.Conv2d):
            found = self._own(_convolve(layer, x, self.down, 1), self.scales[:, :, None, None])
            answer.add_(F.conv2d(found, self.up[:, :, None, None]))
        else:
            found = self._own(F.linear(x, self.down), self.scales.view(len(x), *(1,) * (x.ndim - 2), -1))
            answer.view(-1, answer.shape[-1]).addmm_(found.flatten(0, -2), self.up.T)

    def _own(self, found: Tensor, scales: Tensor) -> Tensor:
        # selected, not multiplied by 0: a row that does not have a product must not get its overflow
        return torch.where(scales != 0, found * scales, 0.0)


@dataclass(frozen=True, eq=False)
class _Common:
    """Products that all rows of a call have, whatever their number."""

    products: Sequence[_Scaled]

    def add(self, layer: Layer, x: Tensor, answer: Tensor) -> None:
        """As `_Terms.add`."""
        for product, scale in self.products:
            if isinstance(layer, nn.Conv2d):
                found = F.conv2d(_convolve(layer, x, product.down, 1), product.up[:, :, None, None])
            else:
                found = F.linear(F.linear(x, product.down), product.up)
            answer.add_(found, alpha=scale)


_Added = _Terms | _SideBySide | _Common


@dataclass(frozen=True, eq=False)
class RowPatches:
    """The patches of a call's rows, in order, all of products only. A single one is for all rows."""

    patches: tuple[Patch, ...]

    @property
    def common(self) -> Patch | None:
        """The patch that all rows have; None: they have different ones."""
        return self.patches[0] if len(set(self.patches)) == 1 else None

    @cached_property
    def terms(self) -> Mapping[str, Sequence[_Added]]:
        """The terms that are added to each layer's output, by the layer's name."""
        if self.common is not None:
            return {layer: [_Common(list(own))] for layer, own in _products(self.common).items()}
        layers: dict[str, dict[tuple[int, ...], list[tuple[int, Product, float]]]] = {}
        of_patch = {patch: _products(patch) for patch in set(self.patches)}
        for row, patch in enumerate(self.patches):
            for layer, own in of_patch[patch].items():
                for product, scale in own:
                    alike = layers.setdefault(layer, {}).setdefault(tuple(product.down.shape), [])
                    alike.append((row, product, scale))
        # most layers have the same rows and scales, which are sent once
        send = _Sender()
        n = len(self.patches)
        return {
            layer: [_terms_of(alike, n, send) for alike in shapes.values()]
            for layer, shapes in layers.items()
        }


class RowProducts:
    """Hooks that add products to the outputs of a network's layers."""

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        self._layers = layers
        self._applied: RowPatches | None = None
        self._hooks: list[RemovableHandle] = []

    @property
    def are_applied(self) -> bool:
        """Whether products are applied now."""
        return self._applied is not None

    def apply(self, rows: RowPatches | None) -> None:
        """Have the network's next calls add the products of these rows; None: of none."""
        if rows is self._applied:
            return
        for hook in self._hooks:
            hook.remove()
        self._applied = rows
        terms = {} if rows is None else rows.terms
        self._hooks = [
            self._layers[name].register_forward_hook(partial(_add, own)) for name, own in terms.items()
        ]


def _add(terms: Sequence[_Added], layer: Any, given: tuple[Any, ...], answer: Tensor) -> None:
    for each in terms:
        each.add(layer, given[0], answer)


def _products(patch: Patch) -> dict[str, list[_Scaled]]:
    """A patch's products and their scales, by layer, in the order in which they are added."""
    found: dict[str, list[_Scaled]] = {}
    for layer, product, scale in _each(patch):
        found.setdefault(layer, []).append((product, scale))
    return found


def _each(patch: Patch) -> Iterator[tuple[str, Product, float]]:
    for adapters, strength in patch.parts:
        for layer, adapter in adapters.items():
            if adapter.product is None:
                raise ValueError(f"{adapter.layer} is no product")
            yield layer, adapter.product, strength * adapter.scale


class _Sender:
    """Copies lists of numbers to a device, each list once, and without waiting for it."""

    def __init__(self) -> None:
        self._sent: dict[object, Tensor] = {}

    def __call__(self, values: Sequence[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
        key = (tuple(values), dtype)
        if key not in self._sent:
            self._sent[key] = to_device(torch.tensor(values, dtype=dtype), device)
        return self._sent[key]


def _terms_of(
    alike: Sequence[tuple[int, Product, float]], n_rows: int, send: _Sender
) -> _Terms | _SideBySide:
    """
    Args:
        alike: rows with a product of one shape each, and its scale.
    """
    rows, products, scales = zip(*alike, strict=True)
    device, dtype = products[0].up.device, products[0].up.dtype
    distinct = {id(product): product for product in products}
    if device.type == "cuda" and sum(len(each.down) for each in distinct.values()) <= SIDE_BY_SIDE:
        return side_by_side(alike, n_rows, send)
    return _Terms(rows=send(rows, torch.int64, device), products=products, scales=send(scales, dtype, device))


def side_by_side(alike: Sequence[tuple[int, Product, float]], n_rows: int, send: _Sender) -> _SideBySide:
    """The same sum as `_Terms` of these would add, computed for all rows at once."""
    distinct = {id(product): product for _, product, _ in alike}
    places = {key: place for place, key in enumerate(distinct)}
    own = np.zeros((n_rows, len(distinct)))
    for row, product, scale in alike:
        own[row, places[id(product)]] += scale
    first = next(iter(distinct.values()))
    scales = send([tuple(row) for row in own], first.up.dtype, first.up.device)
    return _SideBySide(
        down=torch.cat([product.down for product in distinct.values()]),
        up=torch.cat([product.up for product in distinct.values()], dim=1),
        scales=scales.repeat_interleave(len(first.down), dim=1),
    )


def _convolve(layer: nn.Conv2d, x: Tensor, kernels: Tensor, groups: int) -> Tensor:
    """Convolve `x` by other kernels, with the stride, padding and dilation of `layer`."""
    x, padding = pad_input(layer, x)
    return F.conv2d(x, kernels, None, layer.stride, padding, layer.dilation, groups)
