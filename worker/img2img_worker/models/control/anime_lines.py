"""Lines of anime drawings, by the U-Net of Isola et al. 2017 as it was trained for them (`netG`)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from img2img_worker.models.control.drawing_networks import Weights


class AnimeLines(nn.Module):
    """Dark lines on white, [1, 1, H, W] from -1 to 1, of a picture [1, 3, H, W] from -1 to 1.

    Args:
        widths: channels of each level, from half of the picture's size down. H and W have to be multiples of
            ``2 ** len(widths)``.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        inner: _Level | None = None
        for outer, channels in reversed(list(pairwise(widths))):
            inner = _Level(outer, channels, inner)
        self.model = _Outermost(widths[0], inner)

    @classmethod
    def of(cls, weights: Weights) -> "AnimeLines":
        """A network of the sizes that these weights have."""
        widths, before = [len(weights["model.model.0.weight"])], "model.model.1.model."
        while f"{before}1.weight" in weights:
            widths.append(len(weights[f"{before}1.weight"]))
            before += "3.model."
        return cls(widths)

    def forward(self, picture: Tensor) -> Tensor:
        found: Tensor = self.model(picture)
        return found


class _Outermost(nn.Module):
    def __init__(self, channels: int, inner: nn.Module | None) -> None:
        super().__init__()
        up = nn.ConvTranspose2d(2 * channels, 1, 4, stride=2, padding=1)
        down = nn.Conv2d(3, channels, 4, stride=2, padding=1)
        self.model = nn.Sequential(down, inner or nn.Identity(), nn.ReLU(), up, nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.model(x)
        return found


class _Level(nn.Module):
    """Halves the sides, runs the inner level, and doubles them again; its input is concatenated to that."""

    def __init__(self, outer: int, channels: int, inner: "_Level | None") -> None:
        super().__init__()
        down = nn.Conv2d(outer, channels, 4, stride=2, padding=1)
        found = channels if inner is None else 2 * channels
        up = (nn.ReLU(), nn.ConvTranspose2d(found, outer, 4, stride=2, padding=1), nn.InstanceNorm2d(outer))
        within = () if inner is None else (nn.InstanceNorm2d(channels), inner)
        self.model = nn.Sequential(nn.LeakyReLU(0.2), down, *within, *up)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.model(x)], 1)
