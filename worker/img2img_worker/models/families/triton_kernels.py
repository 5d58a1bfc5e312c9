"""Kernels for a GPU, in Triton, over pictures that lie channel by channel in each pixel (channels last).

torch's group norm knows no such layout: around each there are two copies of the picture into another one, and
with the activation, the bias of the convolution before and the time embedding each a pass of their own, these
were half of a UNet's time on an H100. Here a norm reads its picture twice and writes it once. Each row is
computed by itself: its bits do not depend on how many there are.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

P = ParamSpec("P")

#: pixels and channels of a picture that a program works on at a time
TILE = 64
#: pixels whose moments are found together, at least; such parts of a picture, at most, and at a time
PART, MOST_PARTS, PARTS = 4 * TILE, 256, 16
#: channels of a group that a program has room for, at least: one kernel for groups of any usual size
GROUP = 128
#: programs of a kernel that fill a GPU
PROGRAMS = 256
#: numbers for whose values no kernel is made: each takes a third of a second, at the first picture ever
_ANY = ("step", "pixels", "size", "part", "parts", "lines", "width", "seen_width", "seen_height", "n_terms")


def _on_its_device(launch: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Triton launches on the thread's current device, wherever the tensors are."""

    @wraps(launch)
    def launch_there(*args: P.args, **more: P.kwargs) -> Tensor:
        with torch.cuda.device_of(args[0]):  # type: ignore[no-untyped-call]  # torch's own
            return launch(*args, **more)

    return launch_there


@_on_its_device
def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    epsilon: float,
    *,
    add: Tensor | None = None,
    silu: bool = False,
) -> Tensor:
    """``silu(group_norm(x + add))`` of pictures [R, C, H, W], in float32 in between.

    Args:
        x: channels last; so is the answer.
        add: [R, C], or [1, C] for all rows.
        silu: whether it is followed by x·sigmoid(x).
    """
    rows, channels, height, width = x.shape
    pixels = height * width
    part = max(PART, triton.cdiv(pixels, TILE * MOST_PARTS) * TILE)
    parts, width_of = triton.cdiv(pixels, part), min(TILE, triton.next_power_of_2(channels))
    slabs = triton.cdiv(channels, width_of)
    moments = torch.empty(rows, parts, 2, channels, device=x.device, dtype=torch.float32)
    _moments[rows, parts, slabs](x, moments, pixels, channels, part, TILE, width_of)
    factors = torch.empty(rows, 2, channels, device=x.device, dtype=torch.float32)
    added = x if add is None else add
    step = channels if add is not None and len(add) > 1 else 0
    size = channels // groups
    _factors[rows, groups](
        moments, factors, weight, bias, added, step, pixels, channels, size, part, parts, epsilon,
        add is not None, max(GROUP, triton.next_power_of_2(size)), PARTS,
    )  # fmt: skip
    answer = torch.empty_like(x)
    # pixels first: of the others there may be 65,535
    _scaled[triton.cdiv(pixels, TILE), rows, slabs](
        x, answer, factors, pixels, channels, silu, TILE, width_of
    )
    return answer


@_on_its_device
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Of the last dimension of x, [..., n] and contiguous, in float32 in between."""
    answer = torch.empty_like(x)
    width = x.shape[-1]
    lines, size = x.numel() // width, triton.next_power_of_2(width)
    at_once = max(1, TILE * TILE // size)
    _layer_normed[(triton.cdiv(lines, at_once),)](
        x, weight, bias, answer, lines, epsilon, width, size, at_once
    )
    return answer


@_on_its_device
def summed(one: Tensor, other: Tensor, bias: Tensor) -> Tensor:
    """``one + other + bias`` of pictures [R, C, H, W] that are channels last, in float32 in between.

    Args:
        bias: [C]
    """
    answer = torch.empty_like(one)
    total, size = one.numel(), 1024
    _summed[(triton.cdiv(total, size),)](one, other, bias, answer, total, one.shape[1], size)
    return answer


@_on_its_device
def gated(x: Tensor) -> Tensor:
    """``a · gelu(b)`` of x = [a, b] side by side, [..., 2·n] and contiguous; the answer is [..., n]."""
    width = x.shape[-1] // 2
    answer = x.new_empty(*x.shape[:-1], width)
    total, size = answer.numel(), 1024
    _gated[(triton.cdiv(total, size),)](x, answer, total, width, size)
    return answer


@_on_its_device
def doubled(x: Tensor) -> Tensor:
    """Pictures [R, C, H, W], channels last, of which each pixel is four: [R, C, 2·H, 2·W]."""
    rows, channels, height, width = x.shape
    answer = torch.empty(
        rows, channels, 2 * height, 2 * width,
        dtype=x.dtype, device=x.device, memory_format=torch.channels_last,
    )  # fmt: skip
    pixels, width_of = height * width, min(TILE, triton.next_power_of_2(channels))
    _doubled[triton.cdiv(pixels, TILE), rows, triton.cdiv(channels, width_of)](
        x, answer, pixels, width, channels, TILE, width_of
    )
    return answer


@_on_its_device
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


def _kernel(function):
    names = inspect.signature(function).parameters
    return triton.jit(function, do_not_specialize=[name for name in _ANY if name in names])


@_kernel
def _moments(x, moments, pixels, channels, part, PIXELS: tl.constexpr, CHANNELS: tl.constexpr):
    """Mean, and sum of squared deviations from it, of each channel of a part of a picture."""
    row, number = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    has_channel = channel < channels
    first = number * part
    count = tl.minimum(part, pixels - first)
    place = x + (row * pixels + first) * channels + channel
    # deviations from the first pixel: a large mean costs no digits
    pivot = tl.load(place, mask=has_channel, other=0.0).to(tl.float32)
    total = tl.zeros([PIXELS, CHANNELS], dtype=tl.float32)
    squares = tl.zeros([PIXELS, CHANNELS], dtype=tl.float32)
    for start in tl.range(0, count, PIXELS, num_stages=3):
        pixel = start + tl.arange(0, PIXELS)
        inside = (pixel < count)[:, None] & has_channel[None, :]
        value = tl.load(place[None, :] + pixel[:, None].to(tl.int64) * channels, mask=inside, other=0.0)
        deviation = tl.where(inside, value.to(tl.float32) - pivot[None, :], 0.0)
        total += deviation
        squares += deviation * deviation
    whole = tl.sum(total, axis=0)
    to = moments + (row * tl.num_programs(1) + number) * 2 * channels + channel
    tl.store(to, pivot + whole / count, mask=has_channel)
    tl.store(to + channels, tl.sum(squares, axis=0) - whole * whole / count, mask=has_channel)


@_kernel
def _factors(
    moments, factors, weight, bias, add, step, pixels, channels, size, part, parts, epsilon,
    HAS_ADD: tl.constexpr, WIDTH: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """What each channel of a group is multiplied by, and what is added to it then."""
    row, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    within, number = tl.arange(0, WIDTH), tl.arange(0, PARTS)
    channel = group * size + within
    is_one = within < size
    added = tl.zeros([WIDTH], dtype=tl.float32)
    if HAS_ADD:
        added = tl.load(add + row * step + channel, mask=is_one, other=0.0).to(tl.float32)
    total = pixels * size
    sums = tl.zeros([WIDTH], dtype=tl.float32)
    for first in range(0, parts, PARTS):
        inside = (first + number < parts)[:, None] & is_one[None, :]
        count = tl.minimum(part, pixels - (first + number) * part)[:, None].to(tl.float32)
        place = moments + (row * parts + first + number[:, None]) * 2 * channels + channel[None, :]
        mean = tl.load(place, mask=inside, other=0.0) + added[None, :]
        sums += tl.sum(tl.where(inside, mean * count, 0.0), axis=0)
    whole = tl.sum(sums, axis=0) / total
    sums = tl.zeros([WIDTH], dtype=tl.float32)
    for first in range(0, parts, PARTS):
        inside = (first + number < parts)[:, None] & is_one[None, :]
        count = tl.minimum(part, pixels - (first + number) * part)[:, None].to(tl.float32)
        place = moments + (row * parts + first + number[:, None]) * 2 * channels + channel[None, :]
        deviation = tl.load(place, mask=inside, other=0.0) + added[None, :] - whole
        squares = tl.load(place + channels, mask=inside, other=0.0) + count * deviation * deviation
        sums += tl.sum(tl.where(inside, squares, 0.0), axis=0)
    spread = tl.sum(sums, axis=0) / total
    scale = tl.load(weight + channel, mask=is_one, other=0.0).to(tl.float32) / tl.sqrt(spread + epsilon)
    shift = tl.load(bias + channel, mask=is_one, other=0.0).to(tl.float32) + (added - whole) * scale
    to = factors + row * 2 * channels + channel
    tl.store(to, scale, mask=is_one)
    tl.store(to + channels, shift, mask=is_one)


@_kernel
def _scaled(
    x, answer, factors, pixels, channels, SILU: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr
):  # fmt: skip
    row = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    has_channel = channel < channels
    inside = (pixel < pixels)[:, None] & has_channel[None, :]
    place = (row * pixels + pixel[:, None]) * channels + channel[None, :]
    scale = tl.load(factors + row * 2 * channels + channel, mask=has_channel, other=0.0)
    shift = tl.load(factors + (row * 2 + 1) * channels + channel, mask=has_channel, other=0.0)
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) * scale[None, :] + shift[None, :]
    if SILU:
        value = value * tl.sigmoid(value)
    tl.store(answer + place, value.to(answer.dtype.element_ty), mask=inside)


@_kernel
def _layer_normed(
    x, weight, bias, answer, lines, epsilon, WIDTH: tl.constexpr, SIZE: tl.constexpr, LINES: tl.constexpr
):  # fmt: skip
    line = tl.program_id(0).to(tl.int64) * LINES + tl.arange(0, LINES)
    place = tl.arange(0, SIZE)
    inside = (line < lines)[:, None] & (place < WIDTH)[None, :]
    places = line[:, None] * WIDTH + place[None, :]
    value = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(value, axis=1) / WIDTH
    deviation = tl.where(inside, value - mean[:, None], 0.0)
    spread = tl.sum(deviation * deviation, axis=1) / WIDTH
    scale = tl.load(weight + place, mask=place < WIDTH, other=0.0).to(tl.float32)
    shift = tl.load(bias + place, mask=place < WIDTH, other=0.0).to(tl.float32)
    normal = deviation / tl.sqrt(spread + epsilon)[:, None]
    tl.store(answer + places, (normal * scale + shift).to(answer.dtype.element_ty), mask=inside)


@_kernel
def _summed(one, other, bias, answer, total, channels, SIZE: tl.constexpr):
    begin = tl.program_id(0).to(tl.int64) * SIZE
    place = begin + tl.arange(0, SIZE)
    inside = place < total
    channel = ((begin % channels).to(tl.int32) + tl.arange(0, SIZE)) % channels
    value = tl.load(one + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(other + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)
    tl.store(answer + place, value.to(answer.dtype.element_ty), mask=inside)


@_kernel
def _gated(x, answer, total, WIDTH: tl.constexpr, SIZE: tl.constexpr):
    begin = tl.program_id(0).to(tl.int64) * SIZE
    place = begin + tl.arange(0, SIZE)
    inside = place < total
    line = begin // WIDTH
    within = (begin - line * WIDTH).to(tl.int32) + tl.arange(0, SIZE)
    first = x + line * (2 * WIDTH) + within + within // WIDTH * WIDTH
    one = tl.load(first, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(first + WIDTH, mask=inside, other=0.0).to(tl.float32)
    value = one * (0.5 * gate * (1.0 + tl.math.erf(gate * 0.7071067811865476)))
    tl.store(answer + place, value.to(answer.dtype.element_ty), mask=inside)


@_kernel
def _doubled(x, answer, pixels, width, channels, PIXELS: tl.constexpr, CHANNELS: tl.constexpr):
    row = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    inside = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    value = tl.load(x + (row * pixels + pixel[:, None]) * channels + channel[None, :], mask=inside, other=0.0)
    # the first of the four: two lines and two columns for each that there was
    first = 4 * row * pixels + 4 * (pixel // width) * width + 2 * (pixel % width)
    to = answer + first[:, None] * channels + channel[None, :]
    for line in tl.static_range(2):
        for column in tl.static_range(2):
            tl.store(to + (line * 2 * width + column) * channels, value, mask=inside)


@_kernel
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
