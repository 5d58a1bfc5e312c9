"""How what LoRAs add is put on a network, and taken off.

It is added to the weights themselves, as in A1111, in place and only when it changes: a model call then
costs what it costs without. The weights as they were are kept meanwhile and put back as a copy, so that a
render without LoRAs sees no trace of one, not in the last bit. Where rows of a call have different ones, it
is added to what the layers answer (`products`).

A layer that has its weight in 8 bits would round most of it away: it has a precise weight in that one's place
meanwhile. As that takes the memory that 8 bits are to save, what can be added to the answers stays there.
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
from img2img_worker.models.families.packed_convolutions import repack, unpack
from img2img_worker.models.float8 import in_float8, own_weight, replace_weight
from img2img_worker.models.steps import Steps

T = TypeVar("T")

#: calls one after the other whose rows all have one patch, before it is worth adding it to the weights
MERGED_AFTER = 8


class Patched:
    """The layers of a network, by name, and the patch that is applied to them."""

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        self._layers = layers
        #: of changed layers, the own weight, but where it is kept in 8 bits, and the own bias
        self._kept: dict[str, tuple[Tensor | None, Tensor | None]] = {}
        self._may_merge = not any(map(in_float8, layers.values()))
        self._worn: Patch | None = NO_PATCH
        self._products = RowProducts(layers)
        #: what all rows of the last calls had beside the weights, and how many these were
        self._common: Patch | None = None
        self._calls = 0
        self._changing = threading.Lock()
        #: that changing the weights took so far
        self.seconds = 0.0

    @property
    def changes_layers(self) -> bool:
        """Whether layers run otherwise in the next call, and not just with other numbers in their weights."""
        return self._products.are_applied or not (self._may_merge or self._worn == NO_PATCH)

    @torch.inference_mode()
    def apply(self, patch: Patch, rows: RowPatches | None = None) -> None:
        """From now on the weights are the checkpoint's own with `patch`, and nothing else, added.

        Args:
            rows: what each row of the next call has beside. It is added to the weights where all have the
                same, once that has been so for some calls, unless these are kept in 8 bits.
        """
        common = None if rows is None else rows.common
        self._calls = self._calls + 1 if common == self._common else 1
        self._common = common
        is_settled = common == self._worn or self._calls > MERGED_AFTER
        if common is not None and is_settled and self._may_merge:
            patch, rows = common, None
        self._products.apply(rows)
        self._merge(patch)

    def _merge(self, patch: Patch) -> None:
        if patch == self._worn:
            return
        began = time.monotonic()
        with self._changing:
            self._change(patch)
        self.seconds += time.monotonic() - began

    @torch.inference_mode()
    def unpatched(self, network: nn.Module) -> dict[str, Tensor]:
        """The checkpoint's own weights of `network`, some of these layers, as copies; thread-safe."""
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
        self._worn = None  # until it is done: memory may run out on the way
        wanted = patch.layers()
        for name in self._kept.keys() - wanted:
            _set(self._layers[name], *self._kept[name])
            del self._kept[name]
        for name in wanted:
            layer = self._layers[name]
            if name not in self._kept:
                bias = None if layer.bias is None else _copy(layer.bias)
                self._kept[name] = (None if in_float8(layer) else _copy(layer.weight), bias)
            _set(layer, *patch.put_on(name, *self._own(name)))
        self._worn = patch

    def _own(self, name: str) -> tuple[Tensor, Tensor | None]:
        """The checkpoint's weight and bias of a layer, whatever it has now."""
        layer = self._layers[name]
        weight, bias = self._kept.get(name, (None, layer.bias))
        if in_float8(layer):
            return own_weight(layer), bias
        return layer.weight if weight is None else weight, bias

    def during(self, patch: Patch, steps: Steps[T]) -> Steps[T]:
        """`steps`, each with `patch` added; others may add theirs in between."""
        rows = RowPatches((patch,)) if patch.is_by_row else None
        while True:
            self._products.apply(rows)
            self._merge(patch.merged)
            try:
                next(steps)
            except StopIteration as end:
                made: T = end.value
                return made
            yield

    def fitted(self, adapters: Mapping[str, tuple[Adapter, Sequence[Place]]]) -> dict[str, Adapter]:
        """Adapters by layer, each beside the layer, from those of a file with the places where each goes.

        Raises:
            ValueError: there is no such layer, or it has another shape.
        """
        fitted: dict[str, Adapter] = {}
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
                if place.layer in fitted:
                    raise ValueError(f"{adapter.layer} is there twice, under two names")
                layer = self._layers[place.layer]
                try:
                    fitted[place.layer] = adapter.fitted(layer.weight, layer.bias, place.rows)
                except ValueError as error:
                    raise ValueError(f"{adapter.layer}: {error}") from None
        return fitted


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
