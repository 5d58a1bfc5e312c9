"""A table of the products that each row of a call has, for a kernel that adds them."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from img2img_worker.models.adapters.low_rank import Product
from img2img_worker.models.transfer import to_device

#: the fewest and the most ranks that are computed at a time
FEWEST, MOST = 16, 128

#: a product and its scale
Scaled = tuple[Product, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class RowTable:
    """Where a GPU finds the products of each of a call's R rows (or those of all, R = 1), in L layers.

    A row has up to T of them in a layer.
    """

    #: names of the L layers
    layers: tuple[str, ...]
    #: int64 [L, R, T, 3]: addresses of `down` and `up`, and the rank; 0: no product
    places: Tensor
    #: float32 [L, R, T]
    scales: Tensor
    #: how many ranks are computed at a time, a power of two
    ranks: int
    #: whether all ranks and addresses can be divided by 16
    is_aligned: bool
    #: what the addresses are of, so that it stays there
    matrices: Sequence[Tensor]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Sequence[Scaled]]], device: torch.device) -> "RowTable":
        """The table of rows with these products, by layer."""
        distinct = {id(row): row for row in rows}
        layers = tuple(sorted({layer for row in distinct.values() for layer in row}))
        most = max(len(terms) for row in distinct.values() for terms in row.values())
        matrices: list[Tensor] = []
        ranks: set[int] = set()

        def address(matrix: Tensor) -> int:
            matrices.append(matrix.contiguous())
            return matrices[-1].data_ptr()

        own = {}
        for key, row in distinct.items():
            places = np.zeros((len(layers), most, 3), np.int64)
            scales = np.zeros((len(layers), most), np.float32)
            for number, layer in enumerate(layers):
                for term, (product, scale) in enumerate(row.get(layer, ())):
                    rank = len(product.down)
                    places[number, term] = address(product.down), address(product.up), rank
                    scales[number, term] = scale
                    ranks.add(rank)
            own[key] = places, scales
        places, scales = (
            np.stack(each, axis=1) for each in zip(*(own[id(row)] for row in rows), strict=True)
        )
        return cls(
            layers=layers,
            places=to_device(torch.from_numpy(places), device),
            scales=to_device(torch.from_numpy(scales), device),
            ranks=min(MOST, max(FEWEST, 1 << (max(ranks) - 1).bit_length())),
            is_aligned=all(number % 16 == 0 for number in (*ranks, *places[..., :2].flat)),
            matrices=matrices,
        )

    @property
    def kind(self) -> Hashable:
        """What a call depends on beside the tensors."""
        return self.layers, self.ranks, self.is_aligned
