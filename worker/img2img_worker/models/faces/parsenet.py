"""ParseNet: finds the part of a face to which each pixel belongs.

Source: Chen et al., "Progressive Semantic-Aware Style Transformation for Blind Face Restoration" (2021). The
names of the tensors are those of the published weights (``parsing_parsenet.pth``), which A1111 downloads.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: classes of pixels: background, skin, brows, eyes, glasses, ears, nose, mouth, lips, hair, hat, ...
KINDS = 19
#: the classes that are taken from a restored face; hair, hats, necks and clothes stay as they were
OF_FACES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15)


class ParseNet(nn.Module):
    """The network, for faces of 512 × 512 pixels."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (64, 128, 256, 256, 256)
        down = [_Block(before, after, "down") for before, after in pairwise(sizes)]
        self.encoder = nn.Sequential(_Convolution(3, 64), *down)
        self.body = nn.Sequential(*(_Block(256, 256, "") for _ in range(10)))
        up = sizes[::-1]
        self.decoder = nn.Sequential(*(_Block(before, after, "up") for before, after in pairwise(up)))
        self.out_img_conv = _Convolution(64, 3)
        self.out_mask_conv = _Convolution(64, KINDS)

    def forward(self, face: Tensor) -> Tensor:
        """A face, RGB [1, 3, 512, 512] in [-1, 1], to the scores of each class [1, 19, 512, 512]."""
        features = self.encoder(face)
        decoded = self.decoder(features + self.body(features))
        return torch.as_tensor(self.out_mask_conv(decoded))


class _Convolution(nn.Module):
    """A 3 × 3 convolution with mirrored edges; "up" doubles the map before, "down" halves it by stride 2."""

    def __init__(
        self, channels: int, out: int, scale: str = "", *, norm: bool = False, active: bool = False
    ) -> None:
        super().__init__()
        self.is_up = scale == "up"
        self.is_active = active
        self.conv2d = nn.Conv2d(channels, out, 3, 2 if scale == "down" else 1, bias=not norm)
        self.norm = _Norm(out) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="nearest") if self.is_up else x
        x = self.norm(self.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect")))
        return F.leaky_relu(x, 0.2) if self.is_active else x


class _Norm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.norm(x))


class _Block(nn.Module):
    """Residual; "down" halves a map, "up" doubles it."""

    def __init__(self, channels: int, out: int, scale: str) -> None:
        super().__init__()
        self.shortcut_func: nn.Module = nn.Identity()
        if scale or channels != out:
            self.shortcut_func = _Convolution(channels, out, scale)
        self.conv1 = _Convolution(channels, out, scale if scale == "up" else "", norm=True, active=True)
        self.conv2 = _Convolution(out, out, scale if scale == "down" else "", norm=True)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.shortcut_func(x) + self.conv2(self.conv1(x)))
