"""Straight lines: M-LSD's large network (Gu et al. 2022), and reading segments from its maps."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2img_worker.models.control.drawing_networks import Weights

#: MobileNet v2's blocks, up to the last that is used: expansion, channels, repetitions, stride of the first
_BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
#: the layers whose features are used
_USED_LAYERS = (1, 3, 6, 10, 13)
_FIRST, _WIDTH, _MAPS = 32, 64, 16
#: leading maps that are not used
_UNUSED = 7
#: most segments of a picture; side of the square in which only the likeliest middle counts
_MOST, _AROUND = 200, 3


class LineSegments(nn.Module):
    """Maps [1, 9, H/2, W/2] of a picture [1, 4, H, W] from -1 to 1, whose last channel is 1 / 127.5 - 1.

    They are the logit of a segment's middle, x and y of its two ends from there, and four that are not used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _Backbone()
        scales = (64, 32, 24, 16)
        for number, (channels, below) in enumerate(zip(scales, (96, *[_WIDTH] * 3), strict=True)):
            self.add_module(f"block{15 + 2 * number}", _Joined(channels, below, enlarges=number > 0))
            self.add_module(f"block{16 + 2 * number}", _Refined())
        self.block23 = _Last()

    @classmethod
    def of(cls, _weights: Weights) -> "LineSegments":
        """The network; it has only one size."""
        return cls()

    def forward(self, picture: Tensor) -> Tensor:
        *finer, x = self.backbone(picture)
        for number, found in enumerate(reversed(finer)):
            joined = self.get_submodule(f"block{15 + 2 * number}")(found, x)
            x = self.get_submodule(f"block{16 + 2 * number}")(joined)
        maps: Tensor = self.block23(x)
        return maps[:, _UNUSED:]


def segments(maps: Tensor, score: float, length: float) -> Tensor:
    """x and y of both ends of each segment [n, 4], in pixels of the picture, the likeliest first.

    Args:
        maps: of `LineSegments`.
        score: a segment's has to be above this, 0 to 1.
        length: a segment's has to be above this, in cells of the maps.
    """
    middles = torch.sigmoid(maps[:, 0])
    highest = F.max_pool2d(middles, _AROUND, stride=1, padding=_AROUND // 2) == middles
    scores, places = torch.topk((middles * highest).flatten(), min(_MOST, middles.numel()))
    ends = maps[0, 1:5].flatten(1).T[places]
    lengths = (ends[:, :2] - ends[:, 2:]).pow(2).sum(dim=1).sqrt()
    across = maps.shape[-1]
    middle = torch.stack([places % across, places // across], dim=1).repeat(1, 2)
    return 2 * (middle + ends)[(scores > score) & (lengths > length)]


class _Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_Convolved(4, _FIRST, stride=2)]
        before = _FIRST
        for widening, channels, repetitions, stride in _BLOCKS:
            for number in range(repetitions):
                layers.append(_Inverted(before, channels, 1 if number else stride, widening))
                before = channels
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in _USED_LAYERS:
                found.append(x)
        return found


class _Convolved(nn.Sequential):
    def __init__(self, before: int, channels: int, side: int = 3, stride: int = 1, groups: int = 1) -> None:
        padding = 0 if stride == 2 else side // 2
        conv = nn.Conv2d(before, channels, side, stride, padding, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(channels), nn.ReLU6())
        self._stride = stride

    def forward(self, x: Tensor) -> Tensor:
        # padded as in TensorFlow, where the weights come from
        x = F.pad(x, (0, 1, 0, 1)) if self._stride == 2 else x
        for layer in self:
            x = layer(x)
        return x


class _Inverted(nn.Module):
    """MobileNet v2's block (Sandler et al. 2018)."""

    def __init__(self, before: int, channels: int, stride: int, widening: int) -> None:
        super().__init__()
        wide = before * widening
        widened = (_Convolved(before, wide, side=1),) if widening > 1 else ()
        narrowed = (nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.conv = nn.Sequential(*widened, _Convolved(wide, wide, stride=stride, groups=wide), *narrowed)
        self._adds = stride == 1 and before == channels

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(x)
        return x + found if self._adds else found


class _Joined(nn.Module):
    """The features of one scale, concatenated with those of the next coarser one."""

    def __init__(self, channels: int, below: int, *, enlarges: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = _conv_norm(below, _WIDTH, 1), _conv_norm(channels, _WIDTH, 1)
        self._enlarges = enlarges

    def forward(self, found: Tensor, below: Tensor) -> Tensor:
        below = self.conv1(below)
        if self._enlarges:
            below = F.interpolate(below, scale_factor=2.0, mode="bilinear", align_corners=True)
        return torch.cat((self.conv2(found), below), dim=1)


class _Refined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = (
            _conv_norm(2 * _WIDTH, 2 * _WIDTH, 3),
            _conv_norm(2 * _WIDTH, _WIDTH, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv2(self.conv1(x) + x)
        return found


class _Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = (
            _conv_norm(_WIDTH, _WIDTH, 3, reach=5),
            _conv_norm(_WIDTH, _WIDTH, 3),
        )
        self.conv3 = nn.Conv2d(_WIDTH, _MAPS, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv3(self.conv2(self.conv1(x)))
        return found


def _conv_norm(before: int, channels: int, side: int, reach: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(before, channels, side, padding=side // 2 * reach, dilation=reach)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())
