"""OpenPose's networks under their files' names, narrow or of published width, with seeded weights."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

#: out of 64
NARROW, PUBLISHED = 4, 64
#: maps of directions and parts of bodies, of hands and of faces
_LIMBS, _PARTS, _HAND, _FACE = 38, 19, 22, 71
_STAGES = range(2, 7)

Shapes = dict[str, tuple[int, ...]]


def body_shapes(width: int) -> Shapes:
    """The shapes of `body_pose_model`."""
    convolutions = _features(width)
    convolutions |= {"conv4_3_CPM": (4 * width, 8 * width, 3), "conv4_4_CPM": (2 * width, 4 * width, 3)}
    for end, maps in (("_L1", _LIMBS), ("_L2", _PARTS)):
        convolutions |= {f"conv5_{number}_CPM{end}": (2 * width, 2 * width, 3) for number in (1, 2, 3)}
        convolutions |= {f"conv5_4_CPM{end}": (8 * width, 2 * width, 1)}
        convolutions |= {f"conv5_5_CPM{end}": (maps, 8 * width, 1)}
        convolutions |= _stages(width, _LIMBS + _PARTS, maps, end)
    return _with_biases(convolutions)


def hand_shapes(width: int) -> Shapes:
    """The shapes of `hand_pose_model`."""
    return _of_parts(width, _HAND)


def face_shapes(width: int) -> Shapes:
    """The shapes of `facenet`."""
    return _of_parts(width, _FACE)


def seeded(shapes: Shapes, seed: int) -> dict[str, Tensor]:
    """Weights that depend on names and shapes only, so that A1111's extension can be given the same."""
    generator, found = torch.Generator().manual_seed(seed), {}
    for name, shape in sorted(shapes.items()):
        scale = 0.1 if len(shape) == 1 else (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        gain = 1.5 if name.startswith("Mconv7_stage6") else 1.0
        found[name] = gain * scale * torch.randn(shape, generator=generator)
    return found


def write_poses(models: Path, seed: int) -> None:
    """The weights that A1111's extension had for `control_poses.npz`, by seed."""
    folder = models / "annotators" / "openpose"
    folder.mkdir(parents=True)
    save_file(seeded(body_shapes(NARROW), seed), folder / "body_pose_model.safetensors")
    save_file(seeded(hand_shapes(NARROW), seed + 1), folder / "hand_pose_model.safetensors")
    save_file(seeded(face_shapes(NARROW), seed + 2), folder / "facenet.safetensors")


def _of_parts(width: int, maps: int) -> Shapes:
    deep = (8 * width, 8 * width, 3)
    convolutions = _features(width) | dict.fromkeys(("conv4_3", "conv4_4", "conv5_1", "conv5_2"), deep)
    convolutions |= {"conv5_3_CPM": (2 * width, 8 * width, 3), "conv6_1_CPM": (8 * width, 2 * width, 1)}
    convolutions |= {"conv6_2_CPM": (maps, 8 * width, 1)}
    return _with_biases(convolutions | _stages(width, maps, maps, ""))


def _features(width: int) -> dict[str, tuple[int, int, int]]:
    levels = ((width, 2), (2 * width, 2), (4 * width, 4), (8 * width, 2))
    found, before = {}, 3
    for level, (channels, layers) in enumerate(levels, 1):
        for layer in range(1, layers + 1):
            found[f"conv{level}_{layer}"], before = (channels, before, 3), channels
    return found


def _stages(width: int, before: int, maps: int, end: str) -> dict[str, tuple[int, int, int]]:
    inner = 2 * width
    found = {}
    for stage in _STAGES:
        found[f"Mconv1_stage{stage}{end}"] = (inner, before + inner, 7)
        found |= {f"Mconv{layer}_stage{stage}{end}": (inner, inner, 7) for layer in range(2, 6)}
        found[f"Mconv6_stage{stage}{end}"] = (inner, inner, 1)
        found[f"Mconv7_stage{stage}{end}"] = (maps, inner, 1)
    return found


def _with_biases(convolutions: dict[str, tuple[int, int, int]]) -> Shapes:
    weights = {f"{name}.weight": (out, given, k, k) for name, (out, given, k) in convolutions.items()}
    return weights | {f"{name}.bias": (out,) for name, (out, *_) in convolutions.items()}
