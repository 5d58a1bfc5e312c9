"""diffusers' UNet made to answer as the one that Stable Diffusion was published with, which A1111 runs."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import functional as F


def upsample_by_two(unet: Any) -> None:
    """Makes upsamplers double, convolve, and only then fit the result to what it is concatenated with.

    For a latent whose sides the UNet cannot halve evenly, diffusers' upsamplers go to the wanted size first
    and convolve that: another picture.
    """
    for block in unet.up_blocks:
        for upsampler in block.upsamplers or ():
            upsampler.forward = partial(_double_then_fit, upsampler.forward)


def _double_then_fit(
    forward: Callable[[Tensor], Tensor], x: Tensor, output_size: tuple[int, int] | None = None
) -> Tensor:
    doubled = forward(x)
    if output_size is None or doubled.shape[-2:] == output_size:
        return doubled
    return F.interpolate(doubled, size=output_size, mode="nearest")
