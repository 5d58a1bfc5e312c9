"""Networks that draw soft edges or pencil lines, built in the sizes that their files' weights have.

Each takes a picture [1, 3, H, W] from 0 to 1, unless it says otherwise.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2img_worker.models.checkpoints.infer_config import count

Weights = Mapping[str, Tensor]


class SoftEdges(nn.Module):
    """Holistically-nested edges (HED, Xie and Tu 2015) as ControlNet's authors trained it.

    Args:
        levels: channels and number of convolutions of each level, finest first.
    """

    def __init__(self, levels: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.zeros(1, 3, 1, 1))
        before = [3, *(channels for channels, _ in levels)]
        self._names = [f"block{number}" for number in range(1, len(levels) + 1)]
        for name, width, (channels, layers) in zip(self._names, before, levels, strict=False):
            self.add_module(name, _EdgeLevel(width, channels, layers))

    @classmethod
    def of(cls, weights: Weights) -> "SoftEdges":
        """The network that has these."""
        levels = []
        for number in range(1, count(weights, "block{}.") + 1):
            channels = len(weights[f"block{number}.convs.0.weight"])
            levels.append((channels, count(weights, f"block{number}.convs.{{}}.")))
        return cls(levels)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """Logits [1, 1, h, w] of each level, to be enlarged and averaged, of a picture from 0 to 255."""
        x, edges = picture - self.norm, []
        for number, name in enumerate(self._names):
            x, found = self.get_submodule(name)(F.max_pool2d(x, 2) if number else x)
            edges.append(found)
        return edges


class _EdgeLevel(nn.Module):
    def __init__(self, before: int, channels: int, layers: int) -> None:
        super().__init__()
        widths = [before, *[channels] * (layers - 1)]
        self.convs = nn.ModuleList(nn.Conv2d(width, channels, 3, padding=1) for width in widths)
        self.projection = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for conv in self.convs:
            x = F.relu(conv(x))
        return x, self.projection(x)


class LineDrawing(nn.Module):
    """The generator of informative drawings (Chan et al. 2022): dark on white, [1, 1, H, W] from 0 to 1.

    Args:
        width: channels at full size.
        blocks: residual blocks, which are at a quarter of that size.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        deep = 4 * width
        self.model0 = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), *_norm_relu(width))
        self.model1 = nn.Sequential(*_halving(width), *_halving(2 * width))
        self.model2 = nn.Sequential(*(_Residual(deep) for _ in range(blocks)))
        self.model3 = nn.Sequential(*_doubling(deep), *_doubling(deep // 2))
        self.model4 = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(width, 1, 7), nn.Sigmoid())

    @classmethod
    def of(cls, weights: Weights) -> "LineDrawing":
        """The network that has these."""
        return cls(len(weights["model0.1.weight"]), count(weights, "model2.{}."))

    def forward(self, picture: Tensor) -> Tensor:
        for part in (self.model0, self.model1, self.model2, self.model3, self.model4):
            picture = part(picture)
        return picture


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            *_norm_relu(width),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.conv_block(x)
        return found


def _norm_relu(width: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(width), nn.ReLU()


def _halving(width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), *_norm_relu(2 * width)


def _doubling(width: int) -> tuple[nn.Module, ...]:
    half = width // 2
    return nn.ConvTranspose2d(width, half, 3, stride=2, padding=1, output_padding=1), *_norm_relu(half)
