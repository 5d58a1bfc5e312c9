"""Applies patches (what LoRAs add) to a network, and takes them back.

A patch is added to the weights themselves, as in A1111, in place and only when it changes, so a model call
costs no more than without. The original weights are kept meanwhile and copied back, so a render without LoRAs
is the same to the last bit. Where the rows of a call have different patches, these are added to the layers'
outputs instead (`products`).

A layer with an 8-bit weight would round most of a patch away, so it gets a precise weight for that time. This
costs the memory that 8 bits save, so whatever can be added to the outputs is added there.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from img2img_worker.models.adapters.lora_keys import Layer, Place
from img2img_worker.models.adapters.low_rank import Adapter
from img2img_worker.models.adapters.patch import NO_PATCH, Patch
from img2img_worker.models.adapters.products import RowPatches, RowProducts
from img2img_worker.models.adapters.row_table import RowTable
from img2img_worker.models.families.packed_convolutions import repack, unpack
from img2img_worker.models.float8 import in_float8, own_weight, replace_weight
from img2img_worker.models.steps import Steps

T = TypeVar("T")

#: successive calls whose rows all have the same patch, after which it is worth adding it to the weights
MERGED_AFTER = 8


class Patched:
    """A network's layers, by name, and the patch that is applied to them."""

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        self._layers = layers
        #: the original weight and bias of each changed layer; no weight where the layer keeps it in 8 bits
        self._kept: dict[str, tuple[Tensor | None, Tensor | None]] = {}
        self._may_merge = not any(map(in_float8, layers.values()))
        self._patch: Patch | None = NO_PATCH
        self._products = RowProducts(layers)
        #: the patch that all rows of the last calls had, and how many calls these were
        self._common: Patch | None = None
        self._calls = 0
        self._changing = threading.Lock()
        #: seconds that changing weights has taken so far
        self.seconds = 0.0

    @property
    def changes_layers(self) -> bool:
        """Whether the next call runs operations that no recorded one has, and not only with other values."""
        if self._products.are_applied and self._products.table is None:
            return True
        return not (self._may_merge or self._patch == NO_PATCH)

    @property
    def table(self) -> RowTable | None:
        """What a recorded call is to be given for its rows' products; None: no kernel adds any."""
        return self._products.table

    def give(self, places: Tensor, scales: Tensor) -> None:
        """Have the next calls read a table's tensors here (see `RowTable`)."""
        self._products.give(places, scales)

    @torch.inference_mode()
    def apply(self, patch: Patch, rows: RowPatches | None = None) -> None:
        """Have the weights be the checkpoint's own with `patch` added, and nothing else, from now on.

        Args:
            rows: the patches of the next call's rows, beside `patch`. If all rows have the same one for
                several calls, it is added to the weights, unless these are kept in 8 bits.
        """
        common = None if rows is None else rows.common
        self._calls = self._calls + 1 if common == self._common else 1
        self._common = common
        is_settled = common == self._patch or self._calls > MERGED_AFTER
        if common is not None and is_settled and self._may_merge:
            patch, rows = common, None
        self._products.apply(rows)
        self._merge(patch)

    def _merge(self, patch: Patch) -> None:
        if patch == self._patch:
            return
        began = time.monotonic()
        with self._changing:
            self._change(patch)
        self.seconds += time.monotonic() - began

    @torch.inference_mode()
    def own_weights(self, network: nn.Module) -> dict[str, Tensor]:
        """Copies of the checkpoint's own weights of `network`, which has such layers; thread-safe."""
        names = {id(module): name for name, module in network.named_modules()}
        with self._changing:
            found = {
                key: unpack(weight).clone()
                for key, weight in network.state_dict().items()
                if "parametrizations" not in key.split(".")
            }
            for key, layer in self._layers.items():
                name = names.get(id(layer))
                if name is None or not (key in self._kept or in_float8(layer)):
                    continue
                weight, bias = self._own(key)
                found[f"{name}.weight"] = weight.clone()
                if bias is not None:
                    found[f"{name}.bias"] = bias.clone()
        return found

    def _change(self, patch: Patch) -> None:
        self._patch = None  # until it is done: memory may run out on the way
        wanted = patch.layers()
        for name in self._kept.keys() - wanted:
            _set(self._layers[name], *self._kept[name])
            del self._kept[name]
        for name in wanted:
            layer = self._layers[name]
            if name not in self._kept:
                bias = None if layer.bias is None else _copy(layer.bias)
                self._kept[name] = (None if in_float8(layer) else _copy(layer.weight), bias)
            _set(layer, *patch.apply_to(name, *self._own(name)))
        self._patch = patch

    def _own(self, name: str) -> tuple[Tensor, Tensor | None]:
        """A layer's weight and bias as the checkpoint has them, whatever patch is applied."""
        layer = self._layers[name]
        weight, bias = self._kept.get(name, (None, layer.bias))
        if in_float8(layer):
            return own_weight(layer), bias
        return layer.weight if weight is None else weight, bias

    def during(self, patch: Patch, steps: Steps[T]) -> Steps[T]:
        """Run `steps` with `patch` applied in each; between two of them, others may apply theirs."""
        rows = RowPatches((patch,)) if patch.is_by_row else None
        while True:
            self._products.apply(rows)
            self._merge(patch.merged)
            try:
                next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            yield

    def fit(self, adapters: Mapping[str, tuple[Adapter, Sequence[Place]]]) -> dict[str, Adapter]:
        """A file's adapters fitted to the layers that they are for, by the names of these.

        Args:
            adapters: by the name in the file, with the layers, or rows of layers, where each goes.

        Raises:
            ValueError: the network has no such layer, or it has another shape.
        """
        fit: dict[str, Adapter] = {}
        missing = [
            adapter.layer
            for adapter, places in adapters.values()
            if any(place.layer not in self._layers for place in places)
        ]
        if missing:
            others = f", nor {len(missing) - 1} more of its {len(adapters)} layers" if missing[1:] else ""
            raise ValueError(f"this checkpoint has no {missing[0]}{others}")
        for adapter, places in adapters.values():
            for place in places:
                if place.layer in fit:
                    raise ValueError(f"{adapter.layer} is there twice, under two names")
                layer = self._layers[place.layer]
                try:
                    fit[place.layer] = adapter.fit(layer.weight, layer.bias, place.rows)
                except ValueError as error:
                    raise ValueError(f"{adapter.layer}: {error}") from None
        return fit


def _copy(weight: Tensor) -> Tensor:
    return unpack(weight).clone(memory_format=torch.contiguous_format)


def _set(layer: Layer, weight: Tensor | None, bias: Tensor | None) -> None:
    if in_float8(layer):
        replace_weight(layer, weight)
    elif weight is not None and layer.weight.is_mkldnn:
        repack(layer, weight.to(layer.weight.dtype))
    elif weight is not None:
        layer.weight.copy_(weight)
    if layer.bias is not None and bias is not None:
        layer.bias.copy_(bias)
