"""A patch: what an image's LoRAs add to a network."""

from collections.abc import KeysView, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from img2img_worker.models.adapters.low_rank import Adapter
from img2img_worker.models.adapters.row_table import Entry, Scaled


@dataclass(frozen=True, kw_only=True)
class Patch:
    """What some LoRAs add to a network. Two are equal if their files, weights and ranks are."""

    #: path, time and size of the file, weight and ``dyn`` of each LoRA, in the order in which they are added
    key: tuple[tuple[str, int, int, float, int | None], ...] = ()
    #: each LoRA's adapters by layer, as `Patched.fit` gives them, and its weight
    parts: tuple[tuple[Mapping[str, Adapter], float], ...] = field(default=(), compare=False, repr=False)
    #: whether it may be applied as products beside the weights, in a call whose other rows have others
    is_by_row: bool = field(default=False, compare=False)

    @property
    def merged(self) -> "Patch":
        """What is added to the weights themselves, and so must be the same for all rows of a call."""
        return NO_PATCH if self.is_by_row else self

    @property
    def has_products(self) -> bool:
        """Whether everything it adds is a product of two factors, so that rows can have it one by one."""
        adapters = (adapter for own, _ in self.parts for adapter in own.values())
        return all(adapter.product is not None for adapter in adapters)

    @cached_property
    def products(self) -> Mapping[str, Sequence[Scaled]]:
        """Its products and their scales by layer, in the order in which they are added.

        Raises:
            ValueError: one is no product (see `has_products`).
        """
        found: dict[str, list[Scaled]] = {}
        for adapters, strength in self.parts:
            for layer, adapter in adapters.items():
                if adapter.product is None:
                    raise ValueError(f"{adapter.layer} is no product")
                found.setdefault(layer, []).append((adapter.product, strength * adapter.scale))
        return found

    @cached_property
    def entry(self) -> Entry:
        """What a row that has it has in a table for a GPU."""
        return Entry.of(self.products)

    def layers(self) -> KeysView[str]:
        """The names of the layers that it changes."""
        return dict.fromkeys(name for adapters, _ in self.parts for name in adapters).keys()

    def apply_to(self, layer: str, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """A layer's weight and bias, float32, with everything that the patch has for this layer added.

        LoRAs are added one after the other, as in A1111: one whose difference depends on the weight sees what
        the earlier ones have made of it.
        """
        weight, bias = weight.float(), None if bias is None else bias.float()
        for adapters, strength in self.parts:
            if adapter := adapters.get(layer):
                weight = torch.add(weight, adapter.difference(weight), alpha=strength)
                change = adapter.bias_difference
                if bias is not None and change is not None:
                    bias = bias + strength * change
        return weight, bias


#: the patch of an image without LoRAs
NO_PATCH = Patch()
