"""What some LoRAs add to a network."""

from collections.abc import KeysView, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from img2img_worker.models.adapters.low_rank import Adapter


@dataclass(frozen=True, kw_only=True)
class Patch:
    """What some LoRAs add to a network. Equal where their files, weights and ranks are."""

    #: path, time and size of its file, weight and ``dyn`` of each LoRA, in the order in which they are added
    key: tuple[tuple[str, int, int, float, int | None], ...] = ()
    #: the adapters of each by layer, as `Patched.fitted` gives them, and its weight
    parts: tuple[tuple[Mapping[str, Adapter], float], ...] = field(default=(), compare=False, repr=False)
    #: whether a row may have it as products beside the weights, next to rows that have others
    is_by_row: bool = field(default=False, compare=False)

    @property
    def merged(self) -> "Patch":
        """What all rows of a call must have in common: what is added to the weights themselves."""
        return NO_PATCH if self.is_by_row else self

    @property
    def has_products(self) -> bool:
        """Whether all that it adds are products, so that it can be had by row."""
        adapters = (adapter for own, _ in self.parts for adapter in own.values())
        return all(adapter.product is not None for adapter in adapters)

    def layers(self) -> KeysView[str]:
        """Names of the layers that it changes."""
        return dict.fromkeys(name for adapters, _ in self.parts for name in adapters).keys()

    def put_on(self, layer: str, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """A layer's weight and bias with all that is meant for it, float32.

        One after the other, as in A1111: a LoRA whose difference depends on the weight sees what those before
        it made of it.
        """
        weight, bias = weight.float(), None if bias is None else bias.float()
        for adapters, strength in self.parts:
            if adapter := adapters.get(layer):
                weight = torch.add(weight, adapter.difference(weight), alpha=strength)
                change = adapter.bias_difference
                if bias is not None and change is not None:
                    bias = bias + strength * change
        return weight, bias


#: of no LoRA
NO_PATCH = Patch()
