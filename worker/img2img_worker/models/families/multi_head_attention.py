"""Multi-head attention without masks, as the layers of a UNet have it."""

import torch
from torch import Tensor
from torch.nn import functional as F

#: channels: MKL multiplies narrower heads more slowly than these
_NARROWEST_ON_CPU = 16
#: queries: with fewer, several threads round a row differently, depending on how many rows there are
_FEWEST_ON_CPU = 4


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[R, n, heads · d] to [R, heads, n, d]."""
    rows, n, _ = x.shape
    return x.view(rows, n, heads, -1).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention of all heads.

    Args:
        query: [R, heads, n, d].
        key, value: [R, n_tokens, heads · d].

    Returns:
        [R, n, heads · d].
    """
    heads = query.shape[1]
    attend_heads = _attend_in_powers_of_two if query.is_cuda else _attend_wide_enough
    found = attend_heads(query, split_heads(key, heads), split_heads(value, heads))
    return found.transpose(1, 2).flatten(2)


def _attend_in_powers_of_two(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention [R, heads, n, d] on a GPU, its rows split into powers of two.

    cuDNN builds a kernel for each number of rows that it meets, which takes half a second for a UNet.
    """
    rows = len(query)
    if rows.bit_count() == 1:
        return F.scaled_dot_product_attention(query, key, value)
    sizes = [1 << bit for bit in reversed(range(rows.bit_length())) if rows & 1 << bit]
    pieces = zip(*(torch.split(each, sizes) for each in (query, key, value)), strict=True)
    return torch.cat([F.scaled_dot_product_attention(*piece) for piece in pieces])


def _attend_wide_enough(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention [R, heads, n, d] on a CPU; narrow heads and few queries are filled up with zeros.

    The zeros change nothing, and their answers are dropped.
    """
    n, d = query.shape[-2:]
    if n < _FEWEST_ON_CPU:
        query = F.pad(query, (0, 0, 0, _FEWEST_ON_CPU - n))
    if d < _NARROWEST_ON_CPU:
        query, key, value = (F.pad(each, (0, _NARROWEST_ON_CPU - d)) for each in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, scale=d**-0.5)[..., :n, :d]
