"""What LoRAs add to a network's weights, and how it is put on and taken off.

It is added to the weights themselves, as in A1111, in place and only when it changes: a model call then
costs what it costs without. The weights as they were are kept meanwhile and put back as a copy, so that a
render without LoRAs sees no trace of one, not in the last bit.
"""

import threading
from collections.abc import KeysView, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from img2img_worker.models.adapters.lora_keys import Layer, Place
from img2img_worker.models.adapters.low_rank import Adapter
from img2img_worker.models.prompts.steps import Steps

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Patch:
    """What some LoRAs add to a network. Equal where their files, weights and ranks are."""

    #: name, time and size of its file, weight and ``dyn`` of each LoRA, in the order in which they are added
    key: tuple[tuple[str, int, int, float, int | None], ...] = ()
    #: the adapters of each by layer, as `Patched.fitted` gives them, and its weight
    parts: tuple[tuple[Mapping[str, Adapter], float], ...] = field(default=(), compare=False, repr=False)

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


class Patched:
    """The layers of a network, by name, and the patch that is applied to them."""

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        self._layers = layers
        self._kept: dict[str, tuple[Tensor, Tensor | None]] = {}
        self._worn: Patch | None = NO_PATCH
        self._changing = threading.Lock()

    @torch.inference_mode()
    def apply(self, patch: Patch) -> None:
        """From now on the weights are the checkpoint's own with `patch`, and nothing else, added."""
        if patch == self._worn:
            return
        with self._changing:
            self._change(patch)

    @torch.inference_mode()
    def unpatched(self, network: nn.Module) -> dict[str, Tensor]:
        """The checkpoint's own weights of `network`, whose layers these are, as copies; thread-safe."""
        names = {id(module): name for name, module in network.named_modules()}
        with self._changing:
            found = {key: weight.clone() for key, weight in network.state_dict().items()}
            for layer, (weight, bias) in self._kept.items():
                name = names[id(self._layers[layer])]
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
                self._kept[name] = (_copy(layer.weight), None if layer.bias is None else _copy(layer.bias))
            _set(layer, *patch.put_on(name, *self._kept[name]))
        self._worn = patch

    def during(self, patch: Patch, steps: Steps[T]) -> Steps[T]:
        """`steps`, each with `patch` added; others may add theirs in between."""
        while True:
            self.apply(patch)
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
    return weight.clone(memory_format=torch.contiguous_format)


def _set(layer: Layer, weight: Tensor, bias: Tensor | None) -> None:
    layer.weight.copy_(weight)
    if layer.bias is not None and bias is not None:
        layer.bias.copy_(bias)
