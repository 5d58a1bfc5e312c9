"""RetinaFace over a ResNet-50: finds faces, and their eyes, nose and corners of the mouth.

Source: Deng et al., "RetinaFace: Single-stage Dense Face Localisation in the Wild" (2019). The names of the
tensors are those of the published weights (``detection_Resnet50_Final.pth``), which A1111 downloads.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

#: pixels per cell of each feature map, and the sides of the two anchors of each of its cells
_STRIDES = {8: (16, 32), 16: (64, 128), 32: (256, 512)}
#: factors of the network's outputs: for centres and landmarks, and for sizes
_VARIANCES = 0.1, 0.2
#: the mean colour that is subtracted from a picture, as in training: blue, green, red
_MEAN = 104.0, 117.0, 123.0
#: channels of the feature maps
_FEATURES = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Faces:
    """The faces that were found, the likeliest first."""

    #: float32 [n]
    scores: NDArray[np.float32]
    #: left, top, right, bottom in pixels, float32 [n, 4]
    boxes: NDArray[np.float32]
    #: left eye, right eye, nose, corners of the mouth: x, y in pixels, float32 [n, 5, 2]
    landmarks: NDArray[np.float32]


class RetinaFace(nn.Module):
    """The network; call `find`."""

    def __init__(self) -> None:
        super().__init__()
        self.body = _ResNet()
        self.fpn = _Pyramid()
        self.ssh1, self.ssh2, self.ssh3 = _Context(), _Context(), _Context()
        self.ClassHead = nn.ModuleList(_Head(2) for _ in _STRIDES)
        self.BboxHead = nn.ModuleList(_Head(4) for _ in _STRIDES)
        self.LandmarkHead = nn.ModuleList(_Head(10) for _ in _STRIDES)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A picture [1, 3, H, W] to scores [n], boxes [n, 4], landmarks [n, 10], relative to `_anchors`."""
        levels = self.fpn(self.body(image))
        maps = [
            context(level) for context, level in zip((self.ssh1, self.ssh2, self.ssh3), levels, strict=True)
        ]
        scores, boxes, landmarks = (
            torch.cat([head(each) for head, each in zip(heads, maps, strict=True)])
            for heads in (self.ClassHead, self.BboxHead, self.LandmarkHead)
        )
        return scores.softmax(-1)[:, 1], boxes, landmarks

    @torch.inference_mode()
    def find(self, image: NDArray[np.uint8], least: float = 0.97, overlap: float = 0.4) -> Faces:
        """Find the faces in a picture, uint8 [H, W, 3] in blue, green, red.

        Args:
            least: the score that a face must exceed, 0..1.
            overlap: of two boxes whose intersection over union is larger than this, the likelier stays.
        """
        device = next(self.parameters()).device
        height, width = image.shape[:2]
        values = torch.from_numpy(image.astype(np.float32).transpose(2, 0, 1))[None].to(device)
        scores, boxes, landmarks = self(values - torch.tensor(_MEAN, device=device)[:, None, None])
        anchors = _anchors(height, width).to(device)
        centres, sizes = anchors[:, :2], anchors[:, 2:]
        middles = centres + boxes[:, :2] * _VARIANCES[0] * sizes
        halves = sizes * torch.exp(boxes[:, 2:] * _VARIANCES[1]) / 2
        scale = torch.tensor([width, height], dtype=torch.float32, device=device)
        points = centres[:, None] + landmarks.view(-1, 5, 2) * _VARIANCES[0] * sizes[:, None]
        is_likely = scores > least
        order = scores[is_likely].argsort(descending=True, stable=True)
        corners = torch.cat([(middles - halves) * scale, (middles + halves) * scale], dim=1)
        found = [each[is_likely][order].cpu().numpy() for each in (scores, corners, points * scale)]
        kept = _suppress_overlapping(found[1], overlap)
        return Faces(scores=found[0][kept], boxes=found[1][kept], landmarks=found[2][kept])


def _anchors(height: int, width: int) -> Tensor:
    """The anchors [n, 4]: x and y of the centre, width and height, as fractions of the picture's."""
    found = []
    for stride, sides in _STRIDES.items():
        rows, columns = -(-height // stride), -(-width // stride)
        y, x = np.meshgrid(np.arange(rows) + 0.5, np.arange(columns) + 0.5, indexing="ij")
        centres = np.stack([x * stride / width, y * stride / height], axis=-1).reshape(-1, 1, 2)
        sizes = np.array([[side / width, side / height] for side in sides])[None]
        shape = (len(centres), len(sides), 2)
        found.append(np.concatenate([np.broadcast_to(each, shape) for each in (centres, sizes)], axis=-1))
    return torch.from_numpy(np.concatenate([each.reshape(-1, 4) for each in found]).astype(np.float32))


def _suppress_overlapping(boxes: NDArray[np.float32], overlap: float) -> list[int]:
    """Non-maximum suppression: indices of the boxes [n, 4] that overlap with no box kept before them."""
    kept: list[int] = []
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for index, box in enumerate(boxes):
        others = boxes[kept]
        shared = np.clip(
            np.minimum(others[:, 2:], box[2:]) - np.maximum(others[:, :2], box[:2]), 0, None
        ).prod(1)
        if np.all(shared / (areas[kept] + areas[index] - shared) <= overlap):
            kept.append(index)
    return kept


class _ResNet(nn.Module):
    """ResNet-50 without its head; gives the feature maps of 8, 16 and 32 pixels per cell."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(64, 64, blocks=3, stride=1)
        self.layer2 = _stage(256, 128, blocks=4, stride=2)
        self.layer3 = _stage(512, 256, blocks=6, stride=2)
        self.layer4 = _stage(1024, 512, blocks=3, stride=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        maps = [self.layer2(self.layer1(x))]
        for layer in (self.layer3, self.layer4):
            maps.append(layer(maps[-1]))
        return maps


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride=stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(inner)) + self.downsample(x))


def _stage(channels: int, width: int, *, blocks: int, stride: int) -> nn.Sequential:
    first = _Bottleneck(channels, width, stride)
    return nn.Sequential(first, *(_Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)))


class _Pyramid(nn.Module):
    """Feature pyramid: coarse maps are enlarged and added to the finer ones."""

    def __init__(self) -> None:
        super().__init__()
        self.output1, self.output2, self.output3 = (_convolution_block(n, 1) for n in (512, 1024, 2048))
        self.merge1, self.merge2 = _convolution_block(_FEATURES, 3), _convolution_block(_FEATURES, 3)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        fine, middle, coarse = self.output1(maps[0]), self.output2(maps[1]), self.output3(maps[2])
        middle = self.merge2(middle + F.interpolate(coarse, size=middle.shape[2:], mode="nearest"))
        fine = self.merge1(fine + F.interpolate(middle, size=fine.shape[2:], mode="nearest"))
        return [fine, middle, coarse]


class _Context(nn.Module):
    """A context module (SSH): convolutions of a map that cover 3 × 3, 5 × 5 and 7 × 7 cells."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter = _FEATURES // 2, _FEATURES // 4
        self.conv3X3 = _convolution_block(_FEATURES, 3, half, active=False)
        self.conv5X5_1 = _convolution_block(_FEATURES, 3, quarter)
        self.conv5X5_2 = _convolution_block(quarter, 3, quarter, active=False)
        self.conv7X7_2 = _convolution_block(quarter, 3, quarter)
        self.conv7x7_3 = _convolution_block(quarter, 3, quarter, active=False)

    def forward(self, x: Tensor) -> Tensor:
        wider = self.conv5X5_1(x)
        widest = self.conv7x7_3(self.conv7X7_2(wider))
        return F.relu(torch.cat([self.conv3X3(x), self.conv5X5_2(wider), widest], dim=1))


class _Head(nn.Module):
    """A number of outputs for each of a cell's two anchors."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.answers = answers
        self.conv1x1 = nn.Conv2d(_FEATURES, 2 * answers, 1)

    def forward(self, x: Tensor) -> Tensor:
        """A map [1, 256, h, w] to [2 · h · w, answers], cell by cell in rows."""
        answers: Tensor = self.conv1x1(x)[0]
        return answers.permute(1, 2, 0).reshape(-1, self.answers)


def _convolution_block(
    channels: int, kernel: int, out: int = _FEATURES, *, active: bool = True
) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), *([nn.ReLU()] if active else []))
