"""Changes to the UNet's predictions: `ColourFix` keeps a picture's colours, `Restore` its unmasked part.

They change the denoised latent that a prediction implies, x0 = sqrt(1 + sigma²) · x - sigma · prediction,
with the sigma of the nearest whole timestep. Source: sd-webui-controlnet.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F


class RowAmend(Protocol):
    """A change of the denoised latent of one row."""

    @property
    def sigmas(self) -> Tensor:
        """The sigmas [N] of the model's whole timesteps."""

    @property
    def weight(self) -> float:
        """How much of the change is taken, 0 to 1."""

    def picture(self, x0: Tensor) -> Tensor:
        """The changed x0 [C, h, w]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ColourFix:
    """Replaces the low frequencies, and so the colours, by a picture's (``tile_colorfix``)."""

    sigmas: Tensor
    weight: float
    #: the picture's latent [C, h, w]
    origin: Tensor
    #: of the box blur that separates the low frequencies, in latent pixels
    radius: int
    #: how much of the result is blurred, 0 to 1 (``+sharp`` blurs it for the negative prompt)
    softened: float = 0.0

    def picture(self, x0: Tensor) -> Tensor:
        fixed = x0 - box_blur(x0, self.radius) + box_blur(self.origin, self.radius)
        if not self.softened:
            return fixed
        return self.softened * box_blur(fixed, self.radius) + (1 - self.softened) * fixed


@dataclass(frozen=True, kw_only=True, eq=False)
class Restore:
    """Replaces what is not masked by the picture's own latent (``inpaint_only``)."""

    sigmas: Tensor
    weight: float
    #: the picture's latent [C, h, w], and where it is repainted [1, h, w]
    origin: Tensor
    mask: Tensor

    def picture(self, x0: Tensor) -> Tensor:
        return x0 * self.mask + self.origin * (1 - self.mask)


def amend_answer(amend: RowAmend, x: Tensor, t: Tensor, answer: Tensor) -> Tensor:
    """A row's prediction `answer` [C, h, w] after the change.

    Args:
        x, t: the UNet's input, without the channels of an inpainting model's mask and picture; its timestep.
    """
    sigma = amend.sigmas.take(t.round().long())  # not `sigmas[t]`: that would wait for the GPU
    whole = (1 + sigma**2).sqrt() * x
    other = (whole - amend.picture(whole - sigma * answer)) / sigma
    return other * amend.weight + answer * (1 - amend.weight)


def box_blur(latent: Tensor, radius: int) -> Tensor:
    """[C, h, w], averaged over squares of 2 · radius + 1 latent pixels; pixels at the edges are repeated."""
    padded = F.pad(latent[None], (radius,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1)[0]


def repainted_cells(mask: Tensor) -> Tensor:
    """The cells [1, h, w] that a mask [1, H, W] of pixels repaints: all that it touches or borders on."""
    return F.max_pool2d(mask[None], 10, stride=8, padding=1)[0]
