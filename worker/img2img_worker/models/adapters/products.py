"""LoRAs as products beside their layers: each row of a call has its own, and the weights are not changed.

``W x + s · up (down x)`` is ``(W + s · up · down) x`` to rounding (LoRA, Hu et al. 2021).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from img2img_worker.models.adapters.lora_keys import Layer
from img2img_worker.models.adapters.low_rank import Product
from img2img_worker.models.adapters.patch import Patch
from img2img_worker.models.adapters.row_table import RowTable, Scaled
from img2img_worker.models.families.edge_padding import pad_input
from img2img_worker.models.families.fused_layers import kernels_on
from img2img_worker.models.transfer import to_device


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
class _Common:
    """Products that all rows of a call have, whatever their number."""

    products: Sequence[Scaled]

    def add(self, layer: Layer, x: Tensor, answer: Tensor) -> None:
        """As `_Terms.add`."""
        for product, scale in self.products:
            if isinstance(layer, nn.Conv2d):
                found = F.conv2d(_convolve(layer, x, product.down, 1), product.up[:, :, None, None])
            else:
                found = F.linear(F.linear(x, product.down), product.up)
            answer.add_(found, alpha=scale)


_Added = _Terms | _Common


@dataclass(frozen=True, eq=False)
class RowPatches:
    """The patches of a call's rows, in order, all of products only. A single one is for all rows."""

    patches: tuple[Patch, ...]

    @cached_property
    def common(self) -> Patch | None:
        """The patch that all rows have; None: they have different ones."""
        return self.patches[0] if len(set(self.patches)) == 1 else None

    @cached_property
    def table(self) -> RowTable | None:
        """Where a kernel finds the products; None: there is no GPU here, or it has no kernels."""
        patches = self.patches if self.common is None else (self.common,)
        matrix = next((matrix for patch in patches for matrix in patch.entry.matrices), None)
        if matrix is None or _kernels_for(matrix) is None:
            return None
        return RowTable.of([patch.entry for patch in patches], matrix.device)

    @cached_property
    def terms(self) -> Mapping[str, Sequence[_Added]]:
        """The terms that are added to each layer's output, by the layer's name."""
        if self.common is not None:
            return {layer: [_Common(own)] for layer, own in self.common.products.items()}
        layers: dict[str, dict[tuple[int, ...], list[tuple[int, Product, float]]]] = {}
        for row, patch in enumerate(self.patches):
            for layer, own in patch.products.items():
                for product, scale in own:
                    alike = layers.setdefault(layer, {}).setdefault(tuple(product.down.shape), [])
                    alike.append((row, product, scale))
        # most layers have the same rows and scales, which are sent once
        send = _Sender()
        return {
            layer: [_terms_of(alike, send) for alike in shapes.values()] for layer, shapes in layers.items()
        }


class RowProducts:
    """Hooks that add products to the outputs of a network's layers.

    On a GPU they are a kernel's work, which reads from a table whose they are. So another table of the same
    kind needs no other hooks, and a recorded call can be given it as any other tensor.
    """

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        self._layers = layers
        self._applied: RowPatches | None = None
        self._table: RowTable | None = None
        #: the table's tensors, or those of a recording: int64 [L, R, T, 3] and float32 [L, R, T]
        self._given: tuple[Tensor, Tensor] | None = None
        self._hooks: list[RemovableHandle] = []

    @property
    def are_applied(self) -> bool:
        """Whether products are applied now."""
        return self._applied is not None

    @property
    def table(self) -> RowTable | None:
        """Where the products are found that are applied now; None: there are none, or no kernels."""
        return self._table

    def give(self, places: Tensor, scales: Tensor) -> None:
        """Have the network's next calls read these copies of the table's tensors."""
        self._given = places, scales

    def apply(self, rows: RowPatches | None) -> None:
        """Have the network's next calls add the products of these rows; None: of none."""
        table = None if rows is None else rows.table
        if table is not None:
            self.give(table.places, table.scales)
        if rows is self._applied:
            return
        is_same = table is not None and self._table is not None and table.kind == self._table.kind
        self._applied, self._table = rows, table
        if is_same:
            return
        for hook in self._hooks:
            hook.remove()
        hooks: Mapping[str, Callable[..., None]] = {}
        if table is not None:
            kernels = _kernels_for(table.places)
            hooks = {name: partial(self._add_own, kernels, place) for place, name in enumerate(table.layers)}
        elif rows is not None:
            hooks = {name: partial(_add, own) for name, own in rows.terms.items()}
        self._hooks = [self._layers[name].register_forward_hook(hook) for name, hook in hooks.items()]

    def _add_own(
        self, kernels: Any, place: int, layer: Layer, given: tuple[Any, ...], answer: Tensor
    ) -> None:
        if self._table is None or self._given is None:
            raise ValueError("a hook of no table")
        places, scales = self._given
        kernels.add_products(
            answer,
            given[0],
            places[place],
            scales[place],
            ranks=self._table.ranks,
            is_aligned=self._table.is_aligned,
            convolution=layer if isinstance(layer, nn.Conv2d) else None,
        )


def _kernels_for(tensor: Tensor) -> Any:
    """What adds products where a tensor is; None: there is no GPU, or it has no kernels."""
    return kernels_on(tensor.device) if tensor.is_cuda else None


def _add(terms: Sequence[_Added], layer: Any, given: tuple[Any, ...], answer: Tensor) -> None:
    for each in terms:
        each.add(layer, given[0], answer)


class _Sender:
    """Copies lists of numbers to a device, each list once, and without waiting for it."""

    def __init__(self) -> None:
        self._sent: dict[object, Tensor] = {}

    def __call__(self, values: Sequence[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
        key = (tuple(values), dtype)
        if key not in self._sent:
            self._sent[key] = to_device(torch.tensor(values, dtype=dtype), device)
        return self._sent[key]


def _terms_of(alike: Sequence[tuple[int, Product, float]], send: _Sender) -> _Terms:
    """
    Args:
        alike: rows with a product of one shape each, and its scale.
    """
    rows, products, scales = zip(*alike, strict=True)
    device, dtype = products[0].up.device, products[0].up.dtype
    return _Terms(rows=send(rows, torch.int64, device), products=products, scales=send(scales, dtype, device))


def _convolve(layer: nn.Conv2d, x: Tensor, kernels: Tensor, groups: int) -> Tensor:
    """Convolve `x` by other kernels, with the stride, padding and dilation of `layer`."""
    x, padding = pad_input(layer, x)
    return F.conv2d(x, kernels, None, layer.stride, padding, layer.dilation, groups)
