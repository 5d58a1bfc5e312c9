"""Preprocessors with weights of their own: networks in files and folders on this machine."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from img2img_shared.checkpoints import is_a1111_tree
from img2img_shared.errors import Refused
from img2img_shared.model_folders import files_below
from img2img_worker.models.checkpoints.weights import assemble, read_weights
from img2img_worker.models.control.drawing_networks import LineDrawing, SoftEdges, Weights

Pixels = NDArray[np.uint8]
#: makes [H, W] of a picture [H, W, 3]
_Annotator = Callable[[Pixels], Pixels]

#: where they lie in a folder of models, and where A1111's extension has what it has downloaded
FOLDER, OF_EXTENSION = "annotators", Path("extensions/sd-webui-controlnet/annotator/downloads")
ENDINGS = (".safetensors", ".pth")
#: what makes a folder, with its module's name, a model of transformers
_CONFIG = "config.json"
#: brightnesses beside black that "safe" edges have
_SAFE = 2


class _File(NamedTuple):
    """A network in a file of its own."""

    name: str
    make: Callable[[Weights], nn.Module]
    draw: Callable[[nn.Module, Tensor], Pixels]


class Annotators:
    """Those of a worker, loaded when a picture wants them; thread-safe, and one picture at a time.

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
        self._folders = _folders_for(models_dir)
        self._device = torch.device(device)
        self._allow_pickles = allow_pickles
        self._loaded: dict[str, _Annotator] = {}
        self._turn = threading.Lock()

    def annotate(self, module: str, picture: Pixels) -> Pixels:
        """What a module's network makes of [H, W, 3], [H, W]: white what is near, edges and lines.

        Raises:
            Refused: the module's network is not there, or cannot be read.
        """
        with self._turn, torch.inference_mode():
            if module not in self._loaded:
                file = _FILES.get(module)
                self._loaded[module] = self._depth(module) if file is None else self._drawing(module, file)
            return self._loaded[module](picture)

    def _drawing(self, module: str, file: _File) -> _Annotator:
        found = (path for folder in self._folders for path in files_below(folder, ENDINGS))
        path = next((path for path in found if path.stem == file.name), None)
        if path is None:
            raise _missing(module, f"{FOLDER}/{file.name}.safetensors, or .pth")
        try:
            weights = read_weights(path, allow_pickles=self._allow_pickles)
            make = partial(file.make, weights)
            network = assemble(make, weights, device=self._device, dtype=torch.float32, source=path.name)
        except Refused as error:
            raise Refused("control.module", module, f"{path.name} cannot be used: {error.reason}") from None

        def annotator(picture: Pixels) -> Pixels:
            values = torch.from_numpy(picture).to(self._device).float()
            return file.draw(network, values.permute(2, 0, 1)[None])

        return annotator

    def _depth(self, module: str) -> _Annotator:
        # imported here: it takes seconds, and few workers have any
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation

        folder = next((each / module for each in self._folders if (each / module / _CONFIG).is_file()), None)
        if folder is None:
            raise _missing(module, f"one of transformers', {FOLDER}/{module}/{_CONFIG}")
        try:
            processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
            network = AutoModelForDepthEstimation.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            )
        except Exception as error:  # whatever is wrong with a folder
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise Refused("control.module", module, f"{folder.name} cannot be read: {line}") from None
        return partial(_depth, processor, network.to(self._device).eval())


def _folders_for(models_dir: Path | None) -> tuple[Path, ...]:
    if models_dir is None:
        return ()
    beside = (models_dir.parent / OF_EXTENSION,) if is_a1111_tree(models_dir) else ()
    return (models_dir / FOLDER, *beside)


def _missing(module: str, wanted: str) -> Refused:
    return Refused("control.module", module, f"its network is missing: put {wanted} in IMG2IMG_MODELS_DIR")


def _depth(processor: Any, network: Any, picture: Pixels) -> Pixels:
    """How near each pixel is, the nearest 255 and the farthest 0."""
    given = processor(images=picture, return_tensors="pt").to(network.device)
    near = network(**given).predicted_depth[:, None].float()
    size = picture.shape[:2]
    near = torch.nn.functional.interpolate(near, size=size, mode="bilinear", align_corners=False)[0, 0]
    near = near - near.min()
    levels = near / near.max().clamp(min=torch.finfo(near.dtype).tiny) * 255
    return np.asarray(levels.byte().cpu().numpy())


def _edges(network: nn.Module, picture: Tensor, *, is_safe: bool = False) -> Pixels:
    height, width = picture.shape[-2:]
    found = [level[0, 0].cpu().numpy() for level in network(picture)]
    scaled = [cv2.resize(level, (width, height), interpolation=cv2.INTER_LINEAR) for level in found]
    shares = 1 / (1 + np.exp(-np.mean(np.stack(scaled, axis=2), axis=2).astype(np.float64)))
    if is_safe:
        shares = (shares.astype(np.float32) * (_SAFE + 1)).astype(np.int32).astype(np.float32) / _SAFE
    return np.asarray((shares * 255.0).clip(0, 255).astype(np.uint8))


def _lines(network: nn.Module, picture: Tensor) -> Pixels:
    drawn = network(picture / 255)[0, 0].cpu().numpy()
    return np.asarray(255 - (drawn * 255.0).clip(0, 255).astype(np.uint8))


_FILES = {
    "hed": _File("ControlNetHED", SoftEdges.of, _edges),
    "hed_safe": _File("ControlNetHED", SoftEdges.of, partial(_edges, is_safe=True)),
    "lineart": _File("sk_model", LineDrawing.of, _lines),
    "lineart_coarse": _File("sk_model2", LineDrawing.of, _lines),
}
