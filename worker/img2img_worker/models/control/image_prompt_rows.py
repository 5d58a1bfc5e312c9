"""IP-Adapters in a model call: decoupled cross-attention (Ye et al. 2023).

The queries of each cross-attention layer attend to the text and, separately, to keys and values made from a
picture; the two results are added.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor

from img2img_worker.models.control.rows import Region
from img2img_worker.models.families.multi_head_attention import attend
from img2img_worker.models.families.unet import CrossAttention
from img2img_worker.models.transfer import to_device


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagePrompt:
    """A picture's keys and values [n_tokens, d] for each cross-attention layer, in the UNet's order."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    @property
    def n_bytes(self) -> int:
        return sum(each.nbytes for each in (*self.keys, *self.values))


@dataclass(frozen=True, kw_only=True, eq=False)
class RowImagePrompt:
    """An image prompt as one row of a model call uses it."""

    prompt: ImagePrompt
    #: for each layer
    weights: tuple[float, ...]
    #: where it acts; None: everywhere
    region: Region | None = None

    @property
    def n_tokens(self) -> int:
        return len(self.prompt.keys[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagePromptRows:
    """Rows of a call whose image prompts have the same number of tokens, whatever their IP-Adapters."""

    #: [n] their places in the call
    rows: Tensor
    #: for each layer, [n, n_tokens, d]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    #: for each layer [n, 1, 1], and whether any of these is not 0
    weights: tuple[Tensor, ...]
    acting: tuple[bool, ...]
    regions: tuple[Region | None, ...]

    @classmethod
    def of(cls, rows: Sequence[Sequence[RowImagePrompt]]) -> tuple[Self, ...]:
        """Groups the image prompts of a call's rows.

        A row with several is in several groups. Their order does not depend on a row's neighbours.
        """
        entries: dict[tuple[int, int], list[tuple[int, RowImagePrompt]]] = {}
        for place, prompts in enumerate(rows):
            for number, prompt in enumerate(prompts):
                entries.setdefault((number, prompt.n_tokens), []).append((place, prompt))
        return tuple(cls._of(entries[key]) for key in sorted(entries))

    @classmethod
    def _of(cls, members: Sequence[tuple[int, RowImagePrompt]]) -> Self:
        places, own = zip(*members, strict=True)
        first = own[0].prompt.keys[0]
        index = to_device(torch.tensor(places), first.device)

        def stack(layers: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
            return tuple(torch.stack(parts) for parts in zip(*layers, strict=True))

        weights = to_device(torch.tensor([each.weights for each in own], dtype=first.dtype), first.device)
        return cls(
            rows=index,
            keys=stack([each.prompt.keys for each in own]),
            values=stack([each.prompt.values for each in own]),
            weights=weights.T[:, :, None, None].unbind(),
            acting=tuple(any(layer) for layer in zip(*(each.weights for each in own), strict=True)),
            regions=tuple(each.region for each in own),
        )

    def add(self, answer: Tensor, query: Tensor, *, layer: int, cells: tuple[int, int]) -> None:
        """Add these rows' attention to their pictures to a layer's attention to the texts.

        Args:
            answer: of the attention to the texts, [R, n, heads · d]; changed in place.
            query: [R, heads, n, d], for the n positions of a latent that may have been halved several times.
            cells: rows and columns of the whole latent.
        """
        if not self.acting[layer]:
            return
        own = query.index_select(0, self.rows)
        found = attend(own, self.keys[layer], self.values[layer]) * self.weights[layer]
        if any(region is not None for region in self.regions):
            found = found * self._masks(found, cells)
        answer.index_add_(0, self.rows, found)

    def _masks(self, found: Tensor, cells: tuple[int, int]) -> Tensor:
        """Where each image prompt acts, [n, positions, 1], from 0 to 1."""
        while cells[0] * cells[1] > found.shape[1]:
            cells = ((cells[0] + 1) // 2, (cells[1] + 1) // 2)
        everywhere = found.new_ones(1, *cells)
        masks = [everywhere if region is None else region.at(cells, found) for region in self.regions]
        return torch.stack(masks).flatten(1)[:, :, None]


class ImagePromptLayers:
    """The cross-attention layers of a UNet, which may attend to image prompts too.

    Args:
        unet: diffusers', as `as_published` leaves it.
    """

    def __init__(self, unet: Any) -> None:
        processors = unet.attn_processors.values()
        self._layers = [each for each in processors if isinstance(each, CrossAttention)]

    def apply(self, prompts: Sequence[ImagePromptRows], cells: tuple[int, int]) -> None:
        """From now on the UNet's rows have these image prompts, and no others.

        Args:
            cells: rows and columns of the latents.
        """
        if not prompts and not any(layer.more for layer in self._layers):
            return
        for number, layer in enumerate(self._layers):
            layer.more = tuple(partial(each.add, layer=number, cells=cells) for each in prompts)
