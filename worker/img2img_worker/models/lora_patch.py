"""What LoRAs add to a network's weights, and how it is put on and taken off.

It is added to the weights themselves, as in A1111, in place and only when it changes: a model call then
costs what it costs without. The weights as they were are kept meanwhile and put back as a copy, so that a
render without LoRAs sees no trace of one, not in the last bit.
"""

from collections.abc import KeysView, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2img_worker.models.lora_file import Factors

Layer = nn.Linear | nn.Conv2d


@dataclass(frozen=True, kw_only=True)
class Patch:
    """What some LoRAs add to a network. Equal where their files and weights are."""

    #: name, time and size of its file, and weight of each LoRA, in the order in which they are added
    key: tuple[tuple[str, int, int, float], ...] = ()
    #: the factors of each by layer, as `Patched.fitted` gives them, and its weight
    parts: tuple[tuple[Mapping[str, Factors], float], ...] = field(default=(), compare=False, repr=False)

    def layers(self) -> KeysView[str]:
        """Names of the layers that it changes."""
        return dict.fromkeys(name for factors, _ in self.parts for name in factors).keys()

    def added_to(self, weight: Tensor, layer: str) -> Tensor:
        """The sum of a layer's `weight` and all that is meant for it."""
        matrix = weight.flatten(1)
        for factors, strength in self.parts:
            if own := factors.get(layer):
                matrix = torch.addmm(matrix, own.up, own.down, alpha=strength * own.scale)
        return matrix.view(weight.shape)


#: of no LoRA
PLAIN = Patch()


class Patched:
    """The layers of a network, by name, and the patch that they wear."""

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        self._layers = layers
        self._kept: dict[str, Tensor] = {}
        self._worn: Patch | None = PLAIN

    @torch.inference_mode()
    def wear(self, patch: Patch) -> None:
        """From now on the weights are the checkpoint's own with `patch`, and nothing else, added."""
        if patch == self._worn:
            return
        self._worn = None  # until it is done: memory may run out on the way
        wanted = patch.layers()
        for name in self._kept.keys() - wanted:
            self._layers[name].weight.copy_(self._kept[name])
            del self._kept[name]
        for name in wanted:
            weight = self._layers[name].weight
            if name not in self._kept:
                self._kept[name] = weight.clone(memory_format=torch.contiguous_format)
            weight.copy_(patch.added_to(self._kept[name], name))
        self._worn = patch

    def fitted(self, factors: Mapping[str, Factors]) -> dict[str, Factors]:
        """Factors by layer as matrices [out, r] and [r, in · kernel], as precise as the layer and beside it.

        Raises:
            ValueError: there is no such layer, or it has another shape.
        """
        return {name: self._fitted(name, own) for name, own in factors.items()}

    def _fitted(self, name: str, factors: Factors) -> Factors:
        if name not in self._layers:
            raise ValueError(f"this checkpoint has no {name}")
        weight, up, down = self._layers[name].weight, factors.up, factors.down
        if weight.ndim == down.ndim == 4 and (weight.shape[1], down.shape[1]) == (9, 4):
            down = F.pad(down, (0, 0, 0, 0, 0, 5))  # an inpainting checkpoint's first layer, as in A1111
        up, down = up.flatten(1), down.flatten(1)
        if (up.shape[0], down.shape[1]) != weight.flatten(1).shape:
            has = " × ".join(map(str, weight.flatten(1).shape))
            raise ValueError(
                f"{name} is {has} in this checkpoint, {up.shape[0]} × {down.shape[1]} in the LoRA"
            )
        # copies: what is mapped lies unaligned, which changes last bits, and needs its file to stay as it is
        up, down = (part.to(weight.device, weight.dtype, copy=True) for part in (up, down))
        return Factors(up=up, down=down, scale=factors.scale)
