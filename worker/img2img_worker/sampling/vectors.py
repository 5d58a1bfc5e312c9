"""The types that samplers are written with: vectors, a model and a source of noise.

A sampler only adds and scales latents. So a vector may hold a latent or, when a plan is compiled, the
coefficients of one.
"""

from collections.abc import Callable, Generator
from typing import Protocol

from torch import Tensor

from img2img_worker.sampling.levels import Array

#: a latent of the variance-exploding process, x = z + sigma · noise
Vector = Array


#: an adaptive sampler's run: yields (x, sigma) for each model call, is sent the answer, and returns the last
#: x; latents are float32 [C, h, w]
LiveSteps = Generator[tuple[Tensor, float], Tensor, Tensor]
#: the next noise of the image's stream, float32 [C, h, w], for the step between two sigmas
LiveNoise = Callable[[float, float], Tensor]


class Model(Protocol):
    """Denoises: gives the answer after guidance and mask blending.

    Args:
        guidance: factor of the guidance scale.
    """

    def __call__(self, x: Vector, sigma: float, /, *, guidance: float = 1.0) -> Vector: ...


class Noise(Protocol):
    """A fresh standard normal vector for the step between two sigmas."""

    def __call__(self, sigma: float, sigma_next: float, /) -> Vector: ...
