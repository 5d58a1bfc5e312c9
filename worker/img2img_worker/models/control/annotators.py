"""Preprocessors that run networks, whose weights are in files and folders on this machine."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from img2img_shared.errors import Refused
from img2img_worker.models.control.anime_lines import AnimeLines
from img2img_worker.models.control.annotator_files import (
    NetworkFile,
    OnnxFile,
    Places,
    TransformersFolder,
    WeightsFile,
    annotator_folders,
)
from img2img_worker.models.control.drawing_networks import LineDrawing, SoftEdges
from img2img_worker.models.control.line_segments import LineSegments, segments
from img2img_worker.models.control.pixel_differences import PixelDifferences
from img2img_worker.models.control.pose_detector import PoseDetector
from img2img_worker.models.control.pose_networks import BodyMaps, PartMaps
from img2img_worker.models.control.scene_parsing import parse_scene
from img2img_worker.models.control.surface_normals import SurfaceNormals
from img2img_worker.models.control.whole_bodies import find_animals, find_people
from img2img_worker.pictures.control.poses import Poses

Pixels = NDArray[np.uint8]
Numbers = tuple[float, float]
#: levels of brightness above black in "safe" edges
_SAFE = 2
#: probability above which an edge is drawn in a sketch
_SKETCHED = 0.5
#: an anime drawing's sides are enlarged to multiples of this
_ANIME = 256


class _Module(NamedTuple):
    """A preprocessor's networks, and the function of these, a picture [H, W, 3] and its two thresholds."""

    files: Sequence[NetworkFile]
    run: Callable[[Sequence[Any], Pixels, Numbers], Pixels | Poses]


class Annotators:
    """A worker's preprocessor networks, loaded when first used. Thread-safe; they run one picture at a time.

    Args:
        models_dir: a folder of models; None: there are none.
    """

    def __init__(
        self,
        models_dir: Path | None = None,
        *,
        device: torch.device | str = "cpu",
        allow_pickles: bool = False,
    ) -> None:
        folders, on = annotator_folders(models_dir), torch.device(device)
        self._places = Places(folders=folders, device=on, allow_pickles=allow_pickles)
        self._loaded: dict[NetworkFile, Any] = {}
        self._turn = threading.Lock()

    def annotate(self, module: str, picture: Pixels, numbers: Numbers) -> Pixels | Poses:
        """The control picture that a module makes of a picture [H, W, 3], or the poses that it finds.

        A control picture is [H, W] (white: edges, lines, what is near), or [H, W, 3] (normals, classes).

        Args:
            numbers: the module's two thresholds.

        Raises:
            Refused: a network is missing, or cannot be read.
        """
        wanted = _MODULES[module]
        with self._turn, torch.inference_mode():
            try:
                networks = [self._network(file) for file in wanted.files]
            except Refused as refused:
                raise Refused(refused.field, module, refused.reason) from None
            return wanted.run(networks, picture, numbers)

    def _network(self, file: NetworkFile) -> Any:
        if file not in self._loaded:
            self._loaded[file] = file.load(self._places)
        return self._loaded[file]


def _depth(networks: Sequence[Any], picture: Pixels, _numbers: Numbers) -> Pixels:
    """How near each pixel is, the nearest 255 and the farthest 0."""
    ((processor, network),) = networks
    given = processor(images=picture, return_tensors="pt").to(network.device)
    near = network(**given).predicted_depth[:, None].float()
    size = picture.shape[:2]
    near = F.interpolate(near, size=size, mode="bilinear", align_corners=False)[0, 0]
    near = near - near.min()
    levels = near / near.max().clamp(min=torch.finfo(near.dtype).tiny) * 255
    return np.asarray(levels.byte().cpu().numpy())


def _edges(
    networks: Sequence[nn.Module], picture: Pixels, _numbers: Numbers, *, is_safe: bool = False
) -> Pixels:
    (network,) = networks
    height, width = picture.shape[:2]
    found = [level[0, 0].cpu().numpy() for level in network(_as_input(network, picture))]
    scaled = [cv2.resize(level, (width, height), interpolation=cv2.INTER_LINEAR) for level in found]
    shares = 1 / (1 + np.exp(-np.mean(np.stack(scaled, axis=2), axis=2).astype(np.float64)))
    return _levels(_safe(shares) if is_safe else shares)


def _lines(networks: Sequence[nn.Module], picture: Pixels, _numbers: Numbers) -> Pixels:
    (network,) = networks
    return 255 - _levels(network(_as_input(network, picture) / 255)[0, 0].cpu().numpy())


def _pixel_differences(
    networks: Sequence[nn.Module],
    picture: Pixels,
    _numbers: Numbers,
    *,
    is_safe: bool = False,
    is_sketch: bool = False,
) -> Pixels:
    (network,) = networks
    blue_first = np.ascontiguousarray(picture[:, :, ::-1])
    shares = network(_as_input(network, blue_first) / 255)[0, 0].cpu().numpy()
    if is_sketch:
        shares = (shares > _SKETCHED).astype(np.float32)
    return _levels(_safe(shares) if is_safe else shares)


def _anime_lines(networks: Sequence[nn.Module], picture: Pixels, _numbers: Numbers) -> Pixels:
    (network,) = networks
    height, width = picture.shape[:2]
    size = (width + -width % _ANIME, height + -height % _ANIME)
    scaled = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    drawn = network(_as_input(network, scaled) / 127.5 - 1)[0, 0] * 127.5 + 127.5
    lines = cv2.resize(drawn.cpu().numpy(), (width, height), interpolation=cv2.INTER_CUBIC)
    return 255 - np.asarray(lines.clip(0, 255).astype(np.uint8))


def _segments(networks: Sequence[nn.Module], picture: Pixels, numbers: Numbers) -> Pixels:
    (network,) = networks
    given = F.pad(_as_input(network, picture), (0, 0, 0, 0, 0, 1), value=1.0) / 127.5 - 1
    canvas = np.zeros_like(picture[:, :, 0])
    for left, top, right, bottom in segments(network(given), *numbers).int().tolist():
        cv2.line(canvas, (left, top), (right, bottom), 255, 1)
    return canvas


def _normals(networks: Sequence[nn.Module], picture: Pixels, _numbers: Numbers) -> Pixels:
    (network,) = networks
    directions = network(_as_input(network, picture) / 255)[0].permute(1, 2, 0)
    return _levels(((directions + 1) * 0.5).cpu().numpy())


def _people(
    networks: Sequence[Any],
    picture: Pixels,
    _numbers: Numbers,
    *,
    finds_hands: bool = False,
    finds_faces: bool = False,
    shows_bodies: bool = True,
) -> Poses:
    """
    Args:
        networks: for bodies, then, if these are looked for, for hands and for faces.
    """
    body, *others = networks
    hand, face = others[0] if finds_hands else None, others[-1] if finds_faces else None
    height, width = picture.shape[:2]
    people = PoseDetector(body, hand=hand, face=face).people(picture)
    return Poses(width=width, height=height, people=people, shows_bodies=shows_bodies)


def _as_input(network: nn.Module, picture: Pixels) -> Tensor:
    """[1, 3, H, W] from 0 to 255, on the network's device."""
    device = next(network.parameters()).device
    return torch.from_numpy(picture).to(device).float().permute(2, 0, 1)[None]


def _safe(shares: NDArray[np.floating]) -> NDArray[np.floating]:
    """Edges rounded to a few levels, so that they reveal nothing else of the picture."""
    return (shares.astype(np.float32) * (_SAFE + 1)).astype(np.int32).astype(np.float32) / _SAFE


def _levels(shares: NDArray[np.floating]) -> Pixels:
    return np.asarray((shares * 255.0).clip(0, 255).astype(np.uint8))


_HED = WeightsFile("ControlNetHED", SoftEdges.of)
_PIDINET = WeightsFile("table5_pidinet", PixelDifferences.of)
_BODY, _HAND = WeightsFile("body_pose_model", BodyMaps), WeightsFile("hand_pose_model", PartMaps)
_FACE = WeightsFile("facenet", PartMaps)
_DETECTOR, _WHOLE_BODY = OnnxFile("yolox_l"), OnnxFile("dw-ll_ucoco_384")
_ANIMAL = OnnxFile("rtmpose-m_simcc-ap10k_pt-aic-coco_210e-256x256-7a041aa1_20230206")

_MODULES = {
    **{
        name: _Module((TransformersFolder(name, "AutoModelForDepthEstimation"),), _depth)
        for name in ("depth", "depth_anything", "depth_anything_v2")
    },
    "segmentation": _Module(
        (TransformersFolder("segmentation", "AutoModelForSemanticSegmentation"),), parse_scene
    ),
    "hed": _Module((_HED,), _edges),
    "hed_safe": _Module((_HED,), partial(_edges, is_safe=True)),
    "pidinet": _Module((_PIDINET,), _pixel_differences),
    "pidinet_safe": _Module((_PIDINET,), partial(_pixel_differences, is_safe=True)),
    "pidinet_sketch": _Module((_PIDINET,), partial(_pixel_differences, is_sketch=True)),
    "lineart_anime": _Module((WeightsFile("netG", AnimeLines.of),), _anime_lines),
    "mlsd": _Module((WeightsFile("mlsd_large_512_fp32", LineSegments.of),), _segments),
    "normal_bae": _Module((WeightsFile("scannet", SurfaceNormals, published=".pt"),), _normals),
    "lineart": _Module((WeightsFile("sk_model", LineDrawing.of),), _lines),
    "lineart_coarse": _Module((WeightsFile("sk_model2", LineDrawing.of),), _lines),
    "openpose": _Module((_BODY,), _people),
    "openpose_face": _Module((_BODY, _FACE), partial(_people, finds_faces=True)),
    "openpose_faceonly": _Module((_BODY, _FACE), partial(_people, finds_faces=True, shows_bodies=False)),
    "openpose_hand": _Module((_BODY, _HAND), partial(_people, finds_hands=True)),
    "openpose_full": _Module((_BODY, _HAND, _FACE), partial(_people, finds_hands=True, finds_faces=True)),
    "dw_openpose_full": _Module((_DETECTOR, _WHOLE_BODY), find_people),
    "animal_openpose": _Module((_DETECTOR, _ANIMAL), find_animals),
}
