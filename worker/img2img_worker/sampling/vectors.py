"""What a sampler is written against: vectors, a model and a source of noise.

A sampler only ever adds and scales latents. So it does not matter to it whether a vector holds a latent or,
as when a plan is compiled, the coefficients of one.
"""

from collections.abc import Callable, Generator
from typing import Protocol

from torch import Tensor

from img2img_worker.sampling.levels import Array

#: a latent of the variance-exploding process, x = z + sigma · noise
Vector = Array


#: of an adaptive sampler: yields (x, sigma) for each model call, is sent the answer, and returns the last x;
#: float32 [C, h, w] each
LiveSteps = Generator[tuple[Tensor, float], Tensor, Tensor]
#: the next noise of the image's stream, float32 [C, h, w], for the step between two sigmas
LiveNoise = Callable[[float, float], Tensor]


class Model(Protocol):
    """Denoises: the answer after guidance and mask blending.

    Args:
        guidance: what the guidance's scale is multiplied by.
    """

    def __call__(self, x: Vector, sigma: float, /, *, guidance: float = 1.0) -> Vector: ...


class Noise(Protocol):
    """A fresh standard normal vector for the step between two sigmas."""

    def __call__(self, sigma: float, sigma_next: float, /) -> Vector: ...
