"""Attention of many heads over whole tensors, as a UNet's layers have it."""

from torch import Tensor
from torch.nn import functional as F


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[R, heads, n, d] of [R, n, heads · d]."""
    rows, n, _ = x.shape
    return x.view(rows, n, heads, -1).transpose(1, 2)


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """[R, n, heads · d].

    Args:
        query: [R, heads, n, d].
        key, value: [R, n_tokens, heads · d].
    """
    heads = query.shape[1]
    found = F.scaled_dot_product_attention(query, split_heads(key, heads), split_heads(value, heads))
    return found.transpose(1, 2).flatten(2)
