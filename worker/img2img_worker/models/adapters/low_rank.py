"""A LoRA's adapter for one layer: its tensors, and what they add to the layer's weight and bias."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from img2img_worker.models.adapters.lora_kinds import LORA, Kind, Tensors, dora


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One layer's rows in a matrix that a file has for several layers of a checkpoint, such as q, k and v."""

    #: rows of the whole matrix
    total: int
    #: start and end of each stretch of rows, in the layer's order
    stretches: tuple[tuple[int, int], ...]

    def of(self, matrix: Tensor) -> Tensor:
        """The layer's rows of a matrix: [total, ...] to [rows, ...].

        Raises:
            ValueError: the matrix does not have `total` rows.
        """
        if len(matrix) != self.total:
            raise ValueError(f"{len(matrix)} rows where {self.total} are shared out")
        return torch.cat([matrix[start:stop] for start, stop in self.stretches])


class Product(NamedTuple):
    """A difference ``up · down`` that does not depend on the weight, in the layer's precision."""

    #: [rank, in, *kernel]
    down: Tensor
    #: [out, rank]
    up: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """What a LoRA has for one layer, on that layer's device, in the precision of its file."""

    #: the file's name for the layer
    layer: str
    kind: Kind
    tensors: Tensors
    #: the file's own scale, or alpha / rank; 1 where it has neither, or its kind has no rank
    scale: float = 1.0
    #: the rows that are this layer's; None: all
    rows: Rows | None = None
    #: shape and precision of the layer's weight, on the meta device; None: not fitted to a layer yet
    weight: Tensor | None = None

    @cached_property
    def product(self) -> Product | None:
        """What it adds, without the scale; None: that is no ``up · down``, or depends on the weight."""
        wanted = {"lora_up.weight", "lora_down.weight"}
        if self.kind is not LORA or self.tensors.keys() - {"alpha"} != wanted:
            return None
        if self.weight is None or self.weight.ndim < 2:
            return None
        up, down = self.tensors["lora_up.weight"].flatten(1), self.tensors["lora_down.weight"].flatten(1)
        if self.rows is not None:
            up = self.rows.of(up)
        shape, dtype = self.weight.shape, self.weight.dtype
        if _adds_no_mask(self.weight, down):
            down = F.pad(down.view(len(down), 4, *shape[2:]), (0, 0, 0, 0, 0, 5))
        return Product(down=down.reshape(len(down), *shape[1:]).to(dtype), up=up.to(dtype))

    def difference(self, weight: Tensor) -> Tensor:
        """What it adds, at full strength, to a weight: float32, and of the weight's shape.

        Computed in A1111's order: the kind's difference, plus the file's own `bias` (which has the weight's
        shape), times the scale, then DoRA.

        Args:
            weight: as earlier LoRAs have left it, float32.

        Raises:
            ValueError, RuntimeError: it is not for a weight of this shape.
        """
        tensors = {name: tensor.float() for name, tensor in self.tensors.items()}
        found = self.kind.difference(tensors, weight)
        if "bias" in tensors:
            found = found.reshape(tensors["bias"].shape) + tensors["bias"]
        found = _in_shape_of(weight, found if self.rows is None else self.rows.of(found))
        if self.scale != 1:
            found = found * self.scale
        if "dora_scale" in tensors:
            magnitude = tensors["dora_scale"]
            found = dora(found, weight, magnitude[(...,) + (None,) * (weight.ndim - magnitude.ndim)])
        return found

    @property
    def bias_difference(self) -> Tensor | None:
        """What it adds, at full strength and unscaled, to the layer's bias, float32; None: nothing."""
        found = self.tensors.get(self.kind.bias or "")
        if found is None:
            return None
        return (found if self.rows is None else self.rows.of(found)).float()

    def cut(self, rank: int | None) -> "Adapter":
        """Its first `rank` ranks, at the scale of all (A1111's ``dyn``). Other kinds than LoRA stay whole."""
        if rank is None or self.kind is not LORA or "lora_mid.weight" in self.tensors:
            return self
        up, down = self.tensors["lora_up.weight"], self.tensors["lora_down.weight"]
        cut = {"lora_up.weight": up[:, :rank], "lora_down.weight": down[:rank]}
        return replace(self, tensors={**self.tensors, **cut})

    def fit(self, weight: Tensor, bias: Tensor | None, rows: Rows | None) -> "Adapter":
        """The adapter fitted to a layer: on its device, and for its part of the rows.

        Raises:
            ValueError: it is not for such a layer.
        """
        if rows is not None and "dora_scale" in self.tensors:
            raise ValueError(
                "DoRA of several layers as one is not supported: its norms are those of all layers"
            )
        # copies: memory-mapped tensors are unaligned, which changes last bits, and change with their file
        tensors = {name: tensor.to(weight.device, copy=True) for name, tensor in self.tensors.items()}
        shape = torch.empty(weight.shape, dtype=weight.dtype, device="meta")
        adapter = replace(self, tensors=tensors, rows=rows, weight=shape)
        adapter.check(weight, bias)
        return adapter

    def check(self, weight: Tensor, bias: Tensor | None) -> None:
        """Do the arithmetic with shapes alone, on the meta device.

        Raises:
            ValueError: the shapes do not fit.
        """
        shapes = {name: tensor.to("meta") for name, tensor in self.tensors.items()}
        adapter = replace(self, tensors=shapes)
        try:
            adapter.difference(torch.empty(weight.shape, device="meta"))
            change = adapter.bias_difference
        except (RuntimeError, IndexError, ValueError):
            own = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in self.tensors.items())
            raise ValueError(f"a weight of {list(weight.shape)} has no use for {own}") from None
        if change is not None and (bias is None or bias.shape != change.shape):
            has = "none" if bias is None else f"one of {list(bias.shape)}"
            raise ValueError(f"it changes a bias of {list(change.shape)}, and the layer has {has}")


def _in_shape_of(weight: Tensor, found: Tensor) -> Tensor:
    """`found` in the shape of `weight`; padded for an inpainting checkpoint's first layer, as in A1111."""
    matrix = found.reshape(len(found), -1)
    if _adds_no_mask(weight, matrix):
        return F.pad(matrix.reshape(len(weight), 4, *weight.shape[2:]), (0, 0, 0, 0, 0, 5))
    if matrix.shape != weight.reshape(len(weight), -1).shape:
        raise ValueError(f"a difference of {list(found.shape)}")
    return matrix.reshape(weight.shape)


def _adds_no_mask(weight: Tensor, matrix: Tensor) -> bool:
    """Whether `matrix` [n, columns] is for 4 channels, where an inpainting checkpoint's first layer has 9."""
    return weight.ndim == 4 and weight.shape[1] == 9 and matrix.shape[1] == 4 * weight[0, 0].numel()
