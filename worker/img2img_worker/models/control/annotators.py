"""Preprocessors with weights of their own: networks of transformers in folders on this machine."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from img2img_shared.errors import Refused

Pixels = NDArray[np.uint8]

#: where they lie in a folder of models, each in a folder with its module's name
FOLDER = "annotators"
#: what makes such a folder a model of transformers
_CONFIG = "config.json"


@dataclass(frozen=True, kw_only=True)
class _Depth:
    processor: Any
    network: Any


class Annotators:
    """Those of a worker, loaded when a picture wants them; thread-safe, and one picture at a time.

    Args:
        folder: a folder of models; None: there are none.
    """

    def __init__(self, folder: Path | None = None, *, device: torch.device | str = "cpu") -> None:
        self._folder = None if folder is None else folder / FOLDER
        self._device = device
        self._loaded: dict[str, _Depth] = {}
        self._turn = threading.Lock()

    def depth(self, module: str, picture: Pixels) -> Pixels:
        """How near each pixel of [H, W, 3] is, [H, W], the nearest 255 and the farthest 0.

        Raises:
            Refused: the module's network is not there, or cannot be read.
        """
        with self._turn, torch.inference_mode():
            if module not in self._loaded:
                self._loaded[module] = self._load(module)
            loaded = self._loaded[module]
            given = loaded.processor(images=picture, return_tensors="pt").to(self._device)
            near = loaded.network(**given).predicted_depth[:, None].float()
            size = picture.shape[:2]
            near = torch.nn.functional.interpolate(near, size=size, mode="bilinear", align_corners=False)[
                0, 0
            ]
            near = near - near.min()
            return (near / near.max().clamp(min=torch.finfo(near.dtype).tiny) * 255).byte().cpu().numpy()

    def _load(self, module: str) -> _Depth:
        # imported here: it takes seconds, and few workers have any
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation

        folder = None if self._folder is None else self._folder / module
        if folder is None or not (folder / _CONFIG).is_file():
            where = f"{FOLDER}/{module}/{_CONFIG}"
            reason = f"its network is missing: put one of transformers' there, {where} in IMG2IMG_MODELS_DIR"
            raise Refused("control.module", module, reason)
        try:
            processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
            network = AutoModelForDepthEstimation.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            )
        except Exception as error:  # whatever is wrong with a folder
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise Refused("control.module", module, f"{folder.name} cannot be read: {line}") from None
        return _Depth(processor=processor, network=network.to(self._device).eval())
