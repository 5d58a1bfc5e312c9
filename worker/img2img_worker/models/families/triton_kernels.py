"""Kernels for a GPU, in Triton, over pictures that lie channel by channel in each pixel (channels last).

torch's group norm knows no such layout: around each there are two copies of the picture into another one, and
with the activation, the bias of the convolution before and the time embedding each a pass of their own, these
were half of a UNet's time on an H100. Here a norm reads its picture twice and writes it once. Each row is
computed by itself: its bits do not depend on how many there are.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from img2img_worker.models.families.triton_launch import TILE, kernel, on_its_device
from img2img_worker.models.families.triton_products import add_products

__all__ = ["add_products", "doubled", "gated", "group_norm", "layer_norm", "summed"]

#: pixels whose moments are found together, at least; such parts of a picture, at most, and at a time
PART, MOST_PARTS, PARTS = 4 * TILE, 256, 16
#: channels of a group that a program has room for, at least: one kernel for groups of any usual size
GROUP = 128


@on_its_device
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


@on_its_device
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


@on_its_device
def summed(one: Tensor, other: Tensor, bias: Tensor) -> Tensor:
    """``one + other + bias`` of pictures [R, C, H, W] that are channels last, in float32 in between.

    Args:
        bias: [C]
    """
    answer = torch.empty_like(one)
    total, size = one.numel(), 1024
    _summed[(triton.cdiv(total, size),)](one, other, bias, answer, total, one.shape[1], size)
    return answer


@on_its_device
def gated(x: Tensor) -> Tensor:
    """``a · gelu(b)`` of x = [a, b] side by side, [..., 2·n] and contiguous; the answer is [..., n]."""
    width = x.shape[-1] // 2
    answer = x.new_empty(*x.shape[:-1], width)
    total, size = answer.numel(), 1024
    _gated[(triton.cdiv(total, size),)](x, answer, total, width, size)
    return answer


@on_its_device
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


@kernel
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


@kernel
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


@kernel
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


@kernel
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


@kernel
def _summed(one, other, bias, answer, total, channels, SIZE: tl.constexpr):
    begin = tl.program_id(0).to(tl.int64) * SIZE
    place = begin + tl.arange(0, SIZE)
    inside = place < total
    channel = ((begin % channels).to(tl.int32) + tl.arange(0, SIZE)) % channels
    value = tl.load(one + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(other + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)
    tl.store(answer + place, value.to(answer.dtype.element_ty), mask=inside)


@kernel
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


@kernel
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
