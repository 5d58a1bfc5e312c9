"""Samplers whose steps depend on the model's answers, of which no table can be made.

Such a sampler is a generator: it yields a latent and its sigma where others call the model, is sent the
answer, and returns the last latent. Its calls join those of all other images.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass

from torch import Tensor

from img2img_worker.sampling.levels import NoiseLevels

#: yields (x, sigma) for each model call, is sent the answer, and returns the last x; float32 [C, h, w] each
LiveSteps = Generator[tuple[Tensor, float], Tensor, Tensor]
#: the next noise of the image's stream, float32 [C, h, w], for the step between two sigmas
LiveNoise = Callable[[float, float], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class LivePlan:
    """What such a sampler runs on for one image."""

    #: (first x, noise) to its steps
    sampler: Callable[[Tensor, LiveNoise], LiveSteps]
    #: how much of z0 and of the first noise the first x has
    first: tuple[float, float]
    #: the model's, by which it is told a timestep
    levels: NoiseLevels
    #: model calls that it may take, for those who watch
    expected: int
