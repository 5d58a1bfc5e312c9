"""Soft edges by pixel differences (PiDiNet, Su et al. 2021), in its published kind ("carv4").

Its convolutions act on differences of pixels: central (from the middle one), angular (around it) or radial.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2img_worker.models.control.drawing_networks import Weights

#: convolutions of each level, finest first
_LAYERS = (3, 4, 4, 4)
_DILATIONS = (5, 7, 9, 11)
#: for each of a kernel's nine places, the one before it clockwise around the middle
_PREVIOUS = (3, 0, 1, 6, 4, 2, 7, 8, 5)
#: the eight places around the middle in a kernel of 5 × 5: at its edge, and within
_OUTER, _INNER = (0, 2, 4, 10, 14, 20, 22, 24), (6, 7, 8, 11, 13, 16, 17, 18)


class PixelDifferences(nn.Module):
    """The edges [1, 1, H, W] from 0 to 1 of a picture [1, 3, H, W] from 0 to 1, blue first.

    Args:
        width: channels at full size.
        inner: channels of each level's dilated convolutions.
        attention: channels within the spatial attention that weighs these.
    """

    def __init__(self, width: int, inner: int, attention: int) -> None:
        super().__init__()
        self.init_block = _Difference(3, width, _central)
        kinds = (_angular, _radial, _plain, _central)
        before, widths = width, (width, 2 * width, 4 * width, 4 * width)
        number = 0
        self._levels: list[list[str]] = []
        for level, (channels, layers) in enumerate(zip(widths, _LAYERS, strict=True), 1):
            names = [f"block{level}_{layer}" for layer in range(1, layers + 1)]
            for name in names:
                halves = level > 1 and name == names[0]
                self.add_module(name, _Block(before, channels, kinds[number % len(kinds)], halves=halves))
                before, number = channels, number + 1
            self._levels.append(names)
        self.dilations = nn.ModuleList(_Dilated(channels, inner) for channels in widths)
        self.attentions = nn.ModuleList(_Attention(inner, attention) for _ in widths)
        self.conv_reduces = nn.ModuleList(_Reduced(inner) for _ in widths)
        self.classifier = nn.Conv2d(len(widths), 1, 1)

    @classmethod
    def of(cls, weights: Weights) -> "PixelDifferences":
        """A network of the sizes that these weights have."""
        inner, attention = weights["dilations.0.conv1.weight"], weights["attentions.0.conv1.weight"]
        return cls(len(weights["init_block.weight"]), len(inner), len(attention))

    def forward(self, picture: Tensor) -> Tensor:
        x, size, edges = self.init_block(picture), picture.shape[-2:], []
        for number, names in enumerate(self._levels):
            for name in names:
                x = self.get_submodule(name)(x)
            found = self.conv_reduces[number](self.attentions[number](self.dilations[number](x)))
            edges.append(F.interpolate(found, size, mode="bilinear", align_corners=False))
        return torch.sigmoid(self.classifier(torch.cat(edges, 1)))


class _Difference(nn.Module):
    """A convolution with the kernel that `kernel` makes of its weights [C, before, 3, 3]."""

    def __init__(
        self, before: int, channels: int, kernel: Callable[[Tensor], Tensor], groups: int = 1
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, before // groups, 3, 3))
        self._kernel, self._groups = kernel, groups

    def forward(self, x: Tensor) -> Tensor:
        kernel = self._kernel(self.weight)
        return F.conv2d(x, kernel, padding=kernel.shape[-1] // 2, groups=self._groups)


class _Block(nn.Module):
    def __init__(
        self, before: int, channels: int, kernel: Callable[[Tensor], Tensor], *, halves: bool
    ) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(before, channels, 1) if halves else None
        self.conv1 = _Difference(before, before, kernel, groups=before)
        self.conv2 = nn.Conv2d(before, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.shortcut is None else F.max_pool2d(x, 2)
        found: Tensor = self.conv2(F.relu(self.conv1(x)))
        return found + (x if self.shortcut is None else self.shortcut(x))


class _Dilated(nn.Module):
    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 1)
        self._names = [f"conv2_{number}" for number in range(1, len(_DILATIONS) + 1)]
        for name, reach in zip(self._names, _DILATIONS, strict=True):
            conv = nn.Conv2d(channels, channels, 3, dilation=reach, padding=reach, bias=False)
            self.add_module(name, conv)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(F.relu(x))
        return torch.stack([self.get_submodule(name)(x) for name in self._names]).sum(dim=0)


class _Attention(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 1)
        self.conv2 = nn.Conv2d(inner, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv2(self.conv1(F.relu(x))))


class _Reduced(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(x)
        return found


def _plain(weight: Tensor) -> Tensor:
    return weight


def _central(weight: Tensor) -> Tensor:
    middle = torch.zeros_like(weight)
    middle[:, :, 1, 1] = weight.sum(dim=(2, 3))
    return weight - middle


def _angular(weight: Tensor) -> Tensor:
    return weight - weight.flatten(2)[:, :, _PREVIOUS].view(weight.shape)


def _radial(weight: Tensor) -> Tensor:
    flat = weight.flatten(2)[:, :, 1:]
    kernel = weight.new_zeros(*weight.shape[:2], 25)
    kernel[:, :, _OUTER], kernel[:, :, _INNER] = flat, -flat
    return kernel.view(*weight.shape[:2], 5, 5)
