"""The kernel that adds low-rank products, as LoRAs are, to the rows of a layer's answer whose they are."""

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from img2img_worker.models.families.triton_launch import TILE, kernel, on_its_device

#: programs of a kernel that fill a GPU
PROGRAMS = 256


@on_its_device
def add_products(
    answer: Tensor,
    x: Tensor,
    places: Tensor,
    scales: Tensor,
    *,
    ranks: int,
    is_aligned: bool,
    convolution: nn.Conv2d | None = None,
) -> Tensor:
    """``answer += scale · up (down x)``, of each row's own matrices, summed in float32; returns `answer`.

    Args:
        answer: [R, ..., out], contiguous; of a convolution: [R, out, H, W].
        x: [R, ..., in]; of a convolution: [R, in, h, w]. Fastest with its channels side by side.
        places: int64 [R, T, 3], or [1, T, 3] for all rows: of each term the addresses of `down`
            [rank, in, *kernel] and `up` [out, rank], both contiguous and of the type of `answer`, and the
            rank; 0: there is no such term.
        scales: float32 [R, T], or [1, T].
        ranks: how many are computed at a time: a power of two, 16 or more.
        is_aligned: whether all ranks can be divided by 16, and all addresses.
    """
    rows = len(x)
    if convolution is None:
        x, added = x.reshape(rows, 1, -1, x.shape[-1]), answer.view(rows, 1, -1, answer.shape[-1])
        window: tuple[int, ...] = (1, 1, 1, 1, 0, 0, 1, 1)
        wraps = False
    else:
        x, added = x.permute(0, 2, 3, 1), answer.permute(0, 2, 3, 1)
        paddings = convolution._reversed_padding_repeated_twice
        window = (
            *convolution.kernel_size,
            *convolution.stride,
            paddings[2],
            paddings[0],
            *convolution.dilation,
        )
        wraps = convolution.padding_mode == "circular"
    height, width, outer = added.shape[1:]
    tiles = triton.cdiv(height * width, TILE)
    # where there are few programs, several share the channels of a tile
    parts = min(triton.cdiv(PROGRAMS, tiles * rows), triton.cdiv(outer, TILE))
    part = triton.cdiv(outer, TILE * parts) * TILE
    _products_added[tiles, rows, triton.cdiv(outer, part)](
        added, x, places, scales, places.shape[1], 1 if len(places) > 1 else 0,
        height * width, width, outer, part, *added.stride(), x.shape[1], x.shape[2], x.shape[3], *x.stride(),
        *window, wraps, is_aligned, TILE, ranks,
        "ieee" if answer.dtype == torch.float32 else "tf32",
    )  # fmt: skip
    return answer


@kernel
def _products_added(
    answer, x, places, scales, n_terms, step, pixels, width, outer, part,
    to_row, to_line, to_pixel, to_channel,
    seen_height, seen_width, inner, from_row, from_line, from_pixel, from_channel,
    KERNEL_Y: tl.constexpr, KERNEL_X: tl.constexpr, STRIDE_Y: tl.constexpr, STRIDE_X: tl.constexpr,
    PADDING_Y: tl.constexpr, PADDING_X: tl.constexpr, DILATION_Y: tl.constexpr, DILATION_X: tl.constexpr,
    WRAPS: tl.constexpr, IS_ALIGNED: tl.constexpr, TILE: tl.constexpr, RANKS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Of a row's tile of pixels, and of some of its channels."""
    row = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * TILE + tl.arange(0, TILE)
    is_pixel = pixel < pixels
    line, column = pixel // width, pixel % width
    first_channel = tl.program_id(2) * part
    kind = answer.dtype.element_ty
    for number in range(n_terms):
        term = row * step * n_terms + number
        place = places + term * 3
        rank = tl.load(place + 2).to(tl.int32)
        scale = tl.load(scales + term)
        down = tl.load(place).to(tl.pointer_type(kind))
        up = tl.load(place + 1).to(tl.pointer_type(kind))
        if IS_ALIGNED:
            rank = tl.multiple_of(rank, 16)
            down, up = tl.multiple_of(down, 16), tl.multiple_of(up, 16)
        for first in range(0, rank, RANKS):
            ranks = first + tl.arange(0, RANKS)
            is_rank = ranks < rank
            found = tl.zeros([TILE, RANKS], dtype=tl.float32)
            for y in tl.static_range(KERNEL_Y):
                for z in tl.static_range(KERNEL_X):
                    seen_line = line * STRIDE_Y + y * DILATION_Y - PADDING_Y
                    seen_column = column * STRIDE_X + z * DILATION_X - PADDING_X
                    if WRAPS:
                        seen_line = (seen_line + seen_height) % seen_height
                        seen_column = (seen_column + seen_width) % seen_width
                    is_seen = is_pixel & (seen_line >= 0) & (seen_line < seen_height)
                    is_seen = is_seen & (seen_column >= 0) & (seen_column < seen_width)
                    seen = x + row * from_row + seen_line * from_line + seen_column * from_pixel
                    for start in range(0, inner, 2 * TILE):
                        channel = start + tl.arange(0, 2 * TILE)
                        is_channel = channel < inner
                        value = tl.load(
                            seen[:, None] + channel[None, :] * from_channel,
                            mask=is_seen[:, None] & is_channel[None, :], other=0.0,
                        )  # fmt: skip
                        matrix = tl.load(
                            down + (ranks[None, :] * inner + channel[:, None]) * (KERNEL_Y * KERNEL_X)
                            + y * KERNEL_X + z,
                            mask=is_channel[:, None] & is_rank[None, :], other=0.0,
                        )  # fmt: skip
                        found = tl.dot(value.to(kind), matrix, found, input_precision=PRECISION)
            scaled = (found * scale).to(kind)
            for start in range(first_channel, tl.minimum(first_channel + part, outer), TILE):
                channel = start + tl.arange(0, TILE)
                is_channel = channel < outer
                matrix = tl.load(
                    up + channel[None, :] * rank + ranks[:, None],
                    mask=is_rank[:, None] & is_channel[None, :], other=0.0,
                )  # fmt: skip
                to = answer + row * to_row + line[:, None] * to_line + column[:, None] * to_pixel
                to += channel[None, :] * to_channel
                inside = is_pixel[:, None] & is_channel[None, :]
                value = tl.dot(scaled, matrix, input_precision=PRECISION)
                value += tl.load(to, mask=inside, other=0.0).to(tl.float32)
                tl.store(to, value.to(kind), mask=inside)
