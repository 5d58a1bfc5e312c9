"""A table of the products that each row of a call has, for a kernel that adds them."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from img2img_worker.models.adapters.low_rank import Product
from img2img_worker.models.transfer import to_device

#: the fewest and the most ranks that are computed at a time
FEWEST, MOST = 16, 128

#: a product and its scale
Scaled = tuple[Product, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """What a row has in each of n layers: up to T products."""

    #: names of the n layers, sorted
    layers: tuple[str, ...]
    #: int64 [n, T, 3]: addresses of `down` and `up`, and the rank; 0: no product
    places: NDArray[np.int64]
    #: float32 [n, T]
    scales: NDArray[np.float32]
    #: what the addresses are of, so that it stays there
    matrices: Sequence[Tensor]

    @classmethod
    def of(cls, products: Mapping[str, Sequence[Scaled]]) -> "Entry":
        """The entry of a row with these products, by layer."""
        layers = tuple(sorted(products))
        most = max(map(len, products.values()), default=0)
        places = np.zeros((len(layers), most, 3), np.int64)
        scales = np.zeros((len(layers), most), np.float32)
        matrices = []
        for number, layer in enumerate(layers):
            for term, (product, scale) in enumerate(products[layer]):
                down, up = product.down.contiguous(), product.up.contiguous()
                places[number, term] = down.data_ptr(), up.data_ptr(), len(down)
                scales[number, term] = scale
                matrices += [down, up]
        return cls(layers=layers, places=places, scales=scales, matrices=matrices)


@dataclass(frozen=True, kw_only=True, eq=False)
class RowTable:
    """Where a GPU finds the products of each of a call's R rows (or those of all, R = 1), in L layers.

    A row has up to T of them in a layer.
    """

    #: names of the L layers
    layers: tuple[str, ...]
    #: int64 [L, R, T, 3]: as in `Entry`
    places: Tensor
    #: float32 [L, R, T]
    scales: Tensor
    #: how many ranks are computed at a time, a power of two
    ranks: int
    #: whether all ranks and addresses can be divided by 16
    is_aligned: bool
    #: of the rows, whose matrices must stay where they are
    entries: Sequence[Entry]

    @classmethod
    def of(cls, entries: Sequence[Entry], device: torch.device) -> "RowTable":
        """The table of rows with these entries, of which at least one has a product."""
        layers = tuple(sorted({layer for entry in entries for layer in entry.layers}))
        number_of = {layer: number for number, layer in enumerate(layers)}
        most = max(entry.scales.shape[1] for entry in entries)
        places = np.zeros((len(layers), len(entries), most, 3), np.int64)
        scales = np.zeros((len(layers), len(entries), most), np.float32)
        for row, entry in enumerate(entries):
            numbers, terms = [number_of[layer] for layer in entry.layers], entry.scales.shape[1]
            places[numbers, row, :terms], scales[numbers, row, :terms] = entry.places, entry.scales
        return cls(
            layers=layers,
            places=to_device(torch.from_numpy(places), device),
            scales=to_device(torch.from_numpy(scales), device),
            ranks=min(MOST, max(FEWEST, 1 << int(places[..., 2].max() - 1).bit_length())),
            is_aligned=not (places % 16).any(),
            entries=tuple(entries),
        )

    @property
    def kind(self) -> Hashable:
        """What a call depends on beside the tensors."""
        return self.layers, self.ranks, self.is_aligned
