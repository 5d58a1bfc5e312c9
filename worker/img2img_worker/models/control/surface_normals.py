"""Surface normals, by the network of Bae et al. 2021 on an EfficientNet (Tan and Le 2019).

Both are built in the sizes that the weights have.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2img_worker.models.checkpoints.infer_config import count
from img2img_worker.models.control.drawing_networks import Weights

#: of the EfficientNet's stages
_STRIDES = (1, 2, 2, 2, 1, 2, 1)
#: the stages whose features are used, coarsest first
_USED_STAGES = (4, 2, 1, 0)
#: as in TensorFlow, where the EfficientNet's weights come from
_EPSILON = 1e-3
#: of ImageNet's colours, by which the input is normalized
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: least confidence of a direction
_LEAST_TRUST = 0.01


class SurfaceNormals(nn.Module):
    """x, y and z of the surface normals [1, 3, H, W], from -1 to 1, of a picture [1, 3, H, W] from 0 to 1."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        efficient_net = _Encoder(_within(weights, "encoder.original_model."))
        self.encoder = nn.ModuleDict({"original_model": efficient_net})
        self.decoder = _Decoder(_within(weights, "decoder."))

    def forward(self, picture: Tensor) -> Tensor:
        mean, deviation = (picture.new_tensor(each).view(1, 3, 1, 1) for each in (_MEAN, _DEVIATION))
        features = self.encoder["original_model"]((picture - mean) / deviation)
        normals: Tensor = self.decoder(features)
        return normals


class _Encoder(nn.Module):
    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = _conv(weights, "conv_stem", stride=2), _norm(weights, "bn1")
        stages = [
            [
                _Block(_within(weights, f"blocks.{stage}.{number}."), 1 if number else stride)
                for number in range(count(weights, f"blocks.{stage}.{{}}."))
            ]
            for stage, stride in enumerate(_STRIDES)
        ]
        self.blocks = nn.Sequential(*(nn.Sequential(*blocks) for blocks in stages))
        self.conv_head = _conv(weights, "conv_head")
        #: in the file, but behind all features that are used
        self.bn2 = _norm(weights, "bn2")

    def forward(self, picture: Tensor) -> list[Tensor]:
        """The coarsest features, and those of `_USED_STAGES`."""
        x, found = F.silu(self.bn1(self.conv_stem(picture))), []
        for stage in self.blocks:
            x = stage(x)
            found.append(x)
        return [self.conv_head(x), *(found[stage] for stage in _USED_STAGES)]


class _Block(nn.Module):
    """MobileNet's block with squeeze-and-excitation (Hu et al. 2018); the first stage's do not widen."""

    def __init__(self, weights: Weights, stride: int) -> None:
        super().__init__()
        widens = "conv_pwl.weight" in weights
        self._names = ("conv_pw", "conv_dw", "conv_pwl") if widens else ("conv_dw", "conv_pw")
        for number, name in enumerate(self._names, 1):
            is_depthwise = name == "conv_dw"
            self.add_module(
                name, _conv(weights, name, stride=stride if is_depthwise else 1, is_depthwise=is_depthwise)
            )
            self.add_module(f"bn{number}", _norm(weights, f"bn{number}"))
        self.se = _Gate(_within(weights, "se."))
        ends = [weights[f"{name}.weight"].shape for name in (self._names[0], self._names[-1])]
        before = ends[0][1] if widens else ends[0][0]
        self._adds = stride == 1 and before == ends[1][0]

    def forward(self, x: Tensor) -> Tensor:
        before = x
        for number, name in enumerate(self._names, 1):
            x = self.get_submodule(f"bn{number}")(self.get_submodule(name)(x))
            x = x if name == self._names[-1] else F.silu(x)
            x = self.se(x) if name == "conv_dw" else x
        return x + before if self._adds else x


class _Gate(nn.Module):
    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.conv_reduce, self.conv_expand = _conv(weights, "conv_reduce"), _conv(weights, "conv_expand")

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.conv_expand(F.silu(self.conv_reduce(mean))))


class _SameConv(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: what is odd goes to the right and to the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        (side, _), (stride, _) = self.kernel_size, self.stride
        down, across = (
            max((-(size // -stride) - 1) * stride + side - size, 0) for size in (x.shape[-2], x.shape[-1])
        )
        x = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        return super().forward(x)


class _Decoder(nn.Module):
    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.conv2 = _conv(weights, "conv2")
        for number in range(1, len(_USED_STAGES) + 1):
            self.add_module(f"up{number}", _Enlarged(_within(weights, f"up{number}.")))
        self.out_conv_res8 = nn.Conv2d(*_channels(weights["out_conv_res8.weight"]), 3, padding=1)
        for scale in _FINER:
            self.add_module(f"out_conv_res{scale}", _per_pixel(_within(weights, f"out_conv_res{scale}.")))

    def forward(self, features: list[Tensor]) -> Tensor:
        x, levels = self.conv2(features[0]), []
        for number, finer in enumerate(features[1:], 1):
            x = self.get_submodule(f"up{number}")(x, finer)
            levels.append(x)
        _, *levels = levels
        found = _directions(self.out_conv_res8(levels[0]))
        for scale, level in zip(_FINER, levels, strict=True):
            given = torch.cat([_double(level), _double(found)], dim=1)
            answer = self.get_submodule(f"out_conv_res{scale}")(given.flatten(2))
            found = _directions(answer.unflatten(2, given.shape[2:]))
        return found[:, :3]


class _Enlarged(nn.Module):
    def __init__(self, weights: Weights) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in (0, 3):
            before, channels = _channels(weights[f"_net.{number}.weight"])
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.LeakyReLU()]
        self._net = nn.Sequential(*layers)

    def forward(self, x: Tensor, finer: Tensor) -> Tensor:
        enlarged = F.interpolate(x, size=finer.shape[2:], mode="bilinear", align_corners=True)
        found: Tensor = self._net(torch.cat([enlarged, finer], dim=1))
        return found


#: denominators of the sizes (a fourth, a half, the whole) at which normals are refined pixel by pixel
_FINER = (4, 2, 1)


def _per_pixel(weights: Weights) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(count(weights, "{}.weight")):
        layers += [nn.ReLU()] if number else []
        layers.append(nn.Conv1d(*_channels(weights[f"{2 * number}.weight"]), 1))
    return nn.Sequential(*layers)


def _directions(found: Tensor) -> Tensor:
    """Directions of length 1, and the confidence of each."""
    normal, trust = found[:, :3], found[:, 3:]
    length = normal.pow(2).sum(dim=1, keepdim=True).sqrt() + 1e-10
    return torch.cat([normal / length, F.elu(trust) + 1 + _LEAST_TRUST], dim=1)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def _within(weights: Weights, before: str) -> Weights:
    return {name.removeprefix(before): value for name, value in weights.items() if name.startswith(before)}


def _channels(weight: Tensor) -> tuple[int, int]:
    return weight.shape[1], weight.shape[0]


def _conv(weights: Weights, name: str, *, stride: int = 1, is_depthwise: bool = False) -> nn.Conv2d:
    weight = weights[f"{name}.weight"]
    before, channels = _channels(weight)
    groups = channels if is_depthwise else 1
    has_bias = f"{name}.bias" in weights
    return _SameConv(before * groups, channels, weight.shape[-1], stride, groups=groups, bias=has_bias)


def _norm(weights: Weights, name: str) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(len(weights[f"{name}.weight"]), eps=_EPSILON)
