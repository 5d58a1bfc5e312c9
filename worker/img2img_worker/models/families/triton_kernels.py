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
from torch import Tensor

P = ParamSpec("P")

#: pixels and channels of a picture that a program works on at a time
TILE = 64
#: parts of a picture whose moments are found apart, at most, and at a time
MOST_PARTS, PARTS = 256, 16
#: numbers for whose values no kernel is made: each takes a third of a second, at the first picture ever
_ANY = ["step", "pixels", "size", "part", "parts", "lines", "total", "width"]


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
    part = triton.cdiv(pixels, TILE * MOST_PARTS) * TILE
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
        add is not None, triton.next_power_of_2(size), PARTS,
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
    lines, size = answer.numel() // width, min(1024, triton.next_power_of_2(width))
    _gated[lines, triton.cdiv(width, size)](x, answer, width, size)
    return answer


def _kernel(function):
    names = inspect.signature(function).parameters
    return triton.jit(function, do_not_specialize=[name for name in _ANY if name in names])


@_kernel
def _moments(
    x, moments, pixels, channels, PART: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr
):  # fmt: skip
    """Mean, and sum of squared deviations from it, of each channel of a part of a picture."""
    row, number = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    has_channel = channel < channels
    first = number * PART
    count = tl.minimum(PART, pixels - first)
    place = x + (row * pixels + first) * channels + channel
    # deviations from the first pixel: a large mean costs no digits
    pivot = tl.load(place, mask=has_channel, other=0.0).to(tl.float32)
    total = tl.zeros([CHANNELS], dtype=tl.float32)
    squares = tl.zeros([CHANNELS], dtype=tl.float32)
    for start in range(0, PART, PIXELS):
        pixel = start + tl.arange(0, PIXELS)
        inside = (pixel < count)[:, None] & has_channel[None, :]
        value = tl.load(place[None, :] + pixel[:, None].to(tl.int64) * channels, mask=inside, other=0.0)
        deviation = tl.where(inside, value.to(tl.float32) - pivot[None, :], 0.0)
        total += tl.sum(deviation, axis=0)
        squares += tl.sum(deviation * deviation, axis=0)
    to = moments + (row * tl.num_programs(1) + number) * 2 * channels + channel
    tl.store(to, pivot + total / count, mask=has_channel)
    tl.store(to + channels, squares - total * total / count, mask=has_channel)


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
    place = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = place < total
    value = tl.load(one + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(other + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + place % channels, mask=inside, other=0.0).to(tl.float32)
    tl.store(answer + place, value.to(answer.dtype.element_ty), mask=inside)


@_kernel
def _gated(x, answer, width, SIZE: tl.constexpr):
    line = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    inside = place < width
    one = tl.load(x + line * 2 * width + place, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(x + line * 2 * width + width + place, mask=inside, other=0.0).to(tl.float32)
    value = one * (0.5 * gate * (1.0 + tl.math.erf(gate * 0.7071067811865476)))
    tl.store(answer + line * width + place, value.to(answer.dtype.element_ty), mask=inside)
