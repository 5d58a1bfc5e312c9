"""OpenPose's networks (Cao et al. 2017; Simon et al. 2017): maps of the parts of bodies, hands and faces.

Each is a convolutional pose machine (Wei et al. 2016): features of a picture, and stages that take these and
the maps of the stage before. They take a picture [1, 3, H, W] from -0.5 to 0.5, blue first. Names and sizes
of their layers are those of their files.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2img_worker.models.control.drawing_networks import Weights

_STAGES = range(2, 7)
#: convolutions in front of which the features are halved
_HALVED = ("conv2_1", "conv3_1", "conv4_1")
_FEATURES = (
    "conv1_1",
    "conv1_2",
    "conv2_1",
    "conv2_2",
    *(f"conv3_{number}" for number in range(1, 5)),
    "conv4_1",
    "conv4_2",
)
_OF_BODIES = (*_FEATURES, "conv4_3_CPM", "conv4_4_CPM")
_OF_PARTS = (*_FEATURES, "conv4_3", "conv4_4", "conv5_1", "conv5_2", "conv5_3_CPM")


class _PoseMachine(nn.Module):
    """The convolutions of a network, by their names in its file."""

    def __init__(self, weights: Weights, names: Sequence[str]) -> None:
        super().__init__()
        for name in names:
            channels, before, side, _ = weights[f"{name}.weight"].shape
            self.add_module(name, nn.Conv2d(before, channels, side, padding=side // 2))

    def _run_layers(self, names: Sequence[str], x: Tensor, *, ends_linear: bool = True) -> Tensor:
        for name in names:
            x = self.get_submodule(name)(F.max_pool2d(x, 2) if name in _HALVED else x)
            if not ends_linear or name != names[-1]:
                x = F.relu(x)
        return x


class BodyMaps(_PoseMachine):
    """Maps of whole bodies (`body_pose_model`)."""

    def __init__(self, weights: Weights) -> None:
        branches = (_branch(stage, end) for stage in (1, *_STAGES) for end in ("_L1", "_L2"))
        super().__init__(weights, [*_OF_BODIES, *(name for branch in branches for name in branch)])

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Directions of limbs, x and y of each [1, 38, h, w]; confidences of parts [1, 19, h, w]."""
        features = self._run_layers(_OF_BODIES, picture, ends_linear=False)
        x, last = features, _STAGES[-1]
        for stage in (1, *_STAGES):
            limbs = self._run_layers(_branch(stage, "_L1"), x)
            # the published network ends the very last stage of parts with a ReLU
            parts = self._run_layers(_branch(stage, "_L2"), x, ends_linear=stage != last)
            x = torch.cat([limbs, parts, features], 1)
        return limbs, parts


class PartMaps(_PoseMachine):
    """Maps of the joints of a hand (`hand_pose_model`), or of the points of a face (`facenet`)."""

    def __init__(self, weights: Weights) -> None:
        stages = (name for stage in _STAGES for name in _stage(stage))
        super().__init__(weights, [*_OF_PARTS, *_FIRST, *stages])

    def forward(self, picture: Tensor) -> Tensor:
        """The confidences of parts [1, parts, h, w]."""
        features = self._run_layers(_OF_PARTS, picture, ends_linear=False)
        found = self._run_layers(_FIRST, features)
        for stage in _STAGES:
            found = self._run_layers(_stage(stage), torch.cat([found, features], 1))
        return found


_FIRST = ("conv6_1_CPM", "conv6_2_CPM")


def _stage(number: int, end: str = "") -> tuple[str, ...]:
    return tuple(f"Mconv{layer}_stage{number}{end}" for layer in range(1, 8))


def _branch(stage: int, end: str) -> tuple[str, ...]:
    if stage > 1:
        return _stage(stage, end)
    return tuple(f"conv5_{layer}_CPM{end}" for layer in range(1, 6))
