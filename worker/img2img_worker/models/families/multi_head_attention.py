"""Attention of many heads over whole tensors, as a UNet's layers have it."""

import torch
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
    found = _found(query, split_heads(key, heads), split_heads(value, heads))
    return found.transpose(1, 2).flatten(2)


def _found(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """On a GPU, rows are split into powers of two.

    cuDNN makes a kernel for each number of rows that it is given, which takes half of a second for a UNet.
    """
    rows = len(query)
    if rows.bit_count() == 1 or not query.is_cuda:
        return F.scaled_dot_product_attention(query, key, value)
    sizes = [1 << bit for bit in reversed(range(rows.bit_length())) if rows & 1 << bit]
    pieces = zip(*(torch.split(each, sizes) for each in (query, key, value)), strict=True)
    return torch.cat([F.scaled_dot_product_attention(*piece) for piece in pieces])
