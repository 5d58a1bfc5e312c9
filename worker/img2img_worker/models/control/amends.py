"""What some preprocessors do to the network's answers: hold their colours, or what is kept, to a picture.

They work on the picture that an answer stands for, x0 = sqrt(1 + sigma²) · x - sigma · answer, whose sigma is
that of the nearest whole timestep.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F


class RowAmend(Protocol):
    """Makes another picture of the one that a row's answer stands for."""

    @property
    def sigmas(self) -> Tensor:
        """[N] of the model's whole timesteps."""

    @property
    def weight(self) -> float:
        """How much of the other picture is taken, 0 to 1."""

    def picture(self, x0: Tensor) -> Tensor:
        """Of x0 [C, h, w]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ColourFix:
    """Takes the low frequencies from a picture (``tile_colorfix``)."""

    sigmas: Tensor
    weight: float
    #: the picture's latent [C, h, w]
    origin: Tensor
    #: cells of the blur that tells low frequencies
    radius: int
    #: how far it is blurred in the end, 0 to 1 (``+sharp``, of negative rows)
    softened: float = 0.0

    def picture(self, x0: Tensor) -> Tensor:
        fixed = x0 - blurred(x0, self.radius) + blurred(self.origin, self.radius)
        if not self.softened:
            return fixed
        return self.softened * blurred(fixed, self.radius) + (1 - self.softened) * fixed


@dataclass(frozen=True, kw_only=True, eq=False)
class Restore:
    """Takes what is not masked from a picture (``inpaint_only``)."""

    sigmas: Tensor
    weight: float
    #: the picture's latent [C, h, w], and where it is repainted [1, h, w]
    origin: Tensor
    mask: Tensor

    def picture(self, x0: Tensor) -> Tensor:
        return x0 * self.mask + self.origin * (1 - self.mask)


def amended(amend: RowAmend, x: Tensor, t: Tensor, answer: Tensor) -> Tensor:
    """A row's answer [C, h, w] after it.

    Args:
        x, t: what the network was given, the latent's channels alone.
    """
    sigma = amend.sigmas[t.round().long()]
    whole = (1 + sigma**2).sqrt() * x
    other = (whole - amend.picture(whole - sigma * answer)) / sigma
    return other * amend.weight + answer * (1 - amend.weight)


def blurred(latent: Tensor, radius: int) -> Tensor:
    """The mean of each cell [C, h, w] and those so far from it, edges repeated."""
    padded = F.pad(latent[None], (radius,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1)[0]


def repainted_cells(mask: Tensor) -> Tensor:
    """The cells [1, h, w] that a mask [1, H, W] of pixels repaints: all that it touches, or nearly."""
    return F.max_pool2d(mask[None], 10, stride=8, padding=1)[0]
