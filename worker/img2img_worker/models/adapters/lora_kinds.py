"""The kinds of LoRA: each is a function from a layer's tensors in a file to the change of its weight.

They are written in their papers' terms, and give A1111 1.10's results. Where a convolution's tensors are
matrices, their columns run over [in, kernel, kernel]; a result has the weight's rows, in whatever shape.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

#: one layer's tensors, by their names in the file
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One way to represent the change of a weight by few numbers."""

    name: str
    #: tensors that a layer of this kind has, and by which the kind is recognised
    needs: frozenset[str]
    #: (the layer's tensors, its weight [out, in, ...] or [out]) to the difference, all float32
    difference: Callable[[Tensors, Tensor], Tensor]
    #: tensors that a layer of this kind may have, too
    may: frozenset[str] = frozenset()
    #: the tensor whose first dimension is the rank, by which alpha is divided; None: alpha does not scale it
    rank: str | None = None
    #: the tensor that is added to the layer's bias
    bias: str | None = None


def low_rank(tensors: Tensors, _: Tensor) -> Tensor:
    """``up · down`` (LoRA, Hu et al. 2021), or for a kernel ``Σ mid_nm · up_n ⊗ down_m`` (CP, LoCon's)."""
    up, down = tensors["lora_up.weight"].flatten(1), tensors["lora_down.weight"].flatten(1)
    if "lora_mid.weight" in tensors:
        return torch.einsum("nmkl,in,mj->ijkl", tensors["lora_mid.weight"], up, down)
    return up @ down


def hadamard(tensors: Tensors, _: Tensor) -> Tensor:
    """``(a1 · b1) ⊙ (a2 · b2)`` (LoHa, Hyeon-Woo et al. 2022)."""
    return _product(tensors, "hada_w1", "hada_t1") * _product(tensors, "hada_w2", "hada_t2")


def kronecker(tensors: Tensors, _: Tensor) -> Tensor:
    """``w1 ⊗ w2``, each whole or a product itself (LoKr, Yeh et al. 2023)."""
    left, right = (
        tensors[name] if name in tensors else _product(tensors, name, core)
        for name, core in (("lokr_w1", ""), ("lokr_w2", "lokr_t2"))
    )
    return torch.kron(left[(...,) + (None,) * (right.ndim - left.ndim)], right.contiguous())


def glora(tensors: Tensors, weight: Tensor) -> Tensor:
    """``b2 · b1 + W · a2 · a1`` (GLoRA, Chavan et al. 2023); as in A1111, alpha does not scale it.

    Newer trainers write the four factors in another order, which neither A1111 nor this function can read.
    """
    a1, a2, b1, b2 = (tensors[f"{name}.weight"].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    return (b2 @ b1).reshape(weight.shape) + torch.einsum("oi...,ij,jk->ok...", weight, a2, a1)


def ia3(tensors: Tensors, weight: Tensor) -> Tensor:
    """``W ⊙ l``: each row or each column times its own factor (IA3, Liu et al. 2022).

    The factors are a column or a row, [out, 1] or [1, in].
    """
    factors = tensors["weight"]
    return weight * factors[(...,) + (None,) * (weight.ndim - factors.ndim)]


def oft(tensors: Tensors, weight: Tensor) -> Tensor:
    """``R · W - W``, with R from skew-symmetric blocks by Cayley's transform (OFT, Qiu et al. 2023).

    Alpha times the number of rows bounds the blocks' norm (COFT); without alpha, or with 0, nothing does.
    """
    blocks = tensors["oft_blocks"]
    skew = blocks - blocks.mT
    if "alpha" in tensors:
        norm, bound = skew.norm(), tensors["alpha"] * len(weight)
        held = torch.where(bound == 0, norm, torch.minimum(norm, bound))
        skew = skew * ((held + 1e-8) / (norm + 1e-8))
    eye = torch.eye(skew.shape[-1], device=skew.device)
    return _turn((eye + skew) @ torch.linalg.inv(eye - skew), tensors, weight)


def oft_diagonal(tensors: Tensors, weight: Tensor) -> Tensor:
    """``R · W - W`` where the file has R's blocks themselves, as LyCORIS once wrote them."""
    return _turn(tensors["oft_diag"], tensors, weight)


def dora(difference: Tensor, weight: Tensor, magnitude: Tensor) -> Tensor:
    """The difference from W to ``m · (W + D) / ‖W + D‖`` (DoRA, Liu et al. 2024).

    Args:
        magnitude: m as [1, in, ...], with norms over columns, or as [out, 1, ...], over rows; newer trainers
            write the latter, which A1111 misreads.

    Raises:
        ValueError: the magnitude has neither shape.
    """
    whole = weight + difference
    across = [dim for dim in range(whole.ndim) if dim != int(magnitude.shape[0] == 1)]
    norm: Tensor = torch.linalg.vector_norm(whole, dim=across, keepdim=True)
    if norm.shape != magnitude.shape:
        raise ValueError(f"norms of {list(norm.shape)}, magnitudes of {list(magnitude.shape)}")
    return whole * (magnitude / norm) - weight


def _product(tensors: Tensors, name: str, core: str) -> Tensor:
    """``a · b``, or for a kernel ``Σ core_ij · a_i ⊗ b_j`` (Tucker)."""
    a, b = tensors[f"{name}_a"], tensors[f"{name}_b"]
    if core in tensors:
        return torch.einsum("ijkl,ip,jq->pqkl", tensors[core], a, b)
    return a.flatten(1) @ b.flatten(1)


def _turn(rotations: Tensor, tensors: Tensors, weight: Tensor) -> Tensor:
    """``R · W - W`` by blocks [b, n, n] of R, or by the stages of a butterfly [m, b, n, n] (BOFT)."""
    inner = weight.shape[1:]
    if rotations.ndim == 3:
        blocks = weight.reshape(*rotations.shape[:2], *inner)
        result = torch.einsum("knm,kn...->km...", rotations, blocks).reshape(weight.shape)
    else:
        result = weight
        for stage, turns in enumerate(rotations):
            half = 2**stage * (turns.shape[-1] // 2)
            blocks = result.reshape(-1, 2, half, *inner).transpose(1, 2).reshape(*turns.shape[:2], *inner)
            blocks = torch.einsum("bij,bj...->bi...", turns, blocks)
            result = blocks.reshape(-1, half, 2, *inner).transpose(1, 2).reshape(weight.shape)
    if "rescale" in tensors:
        result = result * tensors["rescale"].reshape(-1, *[1] * (weight.ndim - 1))
    return result - weight


def _needs(*names: str) -> frozenset[str]:
    return frozenset(names)


_LOKR_1, _LOKR_2 = ("lokr_w1_a", "lokr_w1_b"), ("lokr_w2_a", "lokr_w2_b")

LORA = Kind(
    name="LoRA",
    needs=_needs("lora_up.weight", "lora_down.weight"),
    may=_needs("lora_mid.weight"),
    difference=low_rank,
    rank="lora_down.weight",
)
IA3 = Kind(name="IA3", needs=_needs("weight", "on_input"), difference=ia3)
KINDS = (
    LORA,
    Kind(
        name="LoHa",
        needs=_needs("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
        may=_needs("hada_t1", "hada_t2"),
        difference=hadamard,
        rank="hada_w1_b",
    ),
    Kind(name="LoKr", needs=_needs("lokr_w1", "lokr_w2"), difference=kronecker),
    Kind(name="LoKr", needs=_needs(*_LOKR_1, "lokr_w2"), difference=kronecker, rank="lokr_w1_b"),
    Kind(
        name="LoKr",
        needs=_needs("lokr_w1", *_LOKR_2),
        may=_needs("lokr_t2"),
        difference=kronecker,
        rank="lokr_w2_b",
    ),
    Kind(
        name="LoKr",
        needs=_needs(*_LOKR_1, *_LOKR_2),
        may=_needs("lokr_t2"),
        difference=kronecker,
        rank="lokr_w2_b",
    ),
    Kind(
        name="GLoRA",
        needs=_needs("a1.weight", "a2.weight", "b1.weight", "b2.weight", "alpha"),
        difference=glora,
    ),
    IA3,
    Kind(name="OFT", needs=_needs("oft_blocks"), may=_needs("rescale"), difference=oft),
    Kind(name="OFT", needs=_needs("oft_diag"), may=_needs("rescale"), difference=oft_diagonal),
    Kind(
        name="full",
        needs=_needs("diff"),
        may=_needs("diff_b"),
        difference=lambda tensors, _: tensors["diff"],
        bias="diff_b",
    ),
    Kind(
        name="norm",
        needs=_needs("w_norm", "b_norm"),
        difference=lambda tensors, _: tensors["w_norm"],
        bias="b_norm",
    ),
)
