"""The face restorers of a worker: CodeFormer and GFPGAN, from A1111's folders, on its device."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from img2img_shared.errors import Refused
from img2img_shared.face_restorers import FACE_RESTORERS
from img2img_shared.model_folders import files_below
from img2img_worker.models.faces.parsenet import ParseNet
from img2img_worker.models.faces.restoring import restore_faces
from img2img_worker.models.faces.retinaface import RetinaFace
from img2img_worker.models.upscalers.upscaler_files import architecture, load_face_restorer, read_state
from img2img_worker.models.upscalers.upscaler_folders import folders_called

#: the networks that find faces and tell their parts: files that A1111 keeps beside GFPGAN's
DETECTION, PARSING = "detection_Resnet50_Final.pth", "parsing_parsenet.pth"

Network = TypeVar("Network", bound=nn.Module)


class FaceRestorers:
    """Finds the restorers' files, and restores faces with them; thread-safe.

    Args:
        models_dir: A1111's ``models``, or a folder of checkpoints: holds ``GFPGAN`` and ``Codeformer``.
    """

    def __init__(self, models_dir: Path | None, device: torch.device) -> None:
        self._models_dir = models_dir
        self._device = device
        self._turn = threading.Lock()
        #: networks stay on the device once they were used; these published files do not change
        self._network = lru_cache(maxsize=4)(self._read)

    @property
    def reasons(self) -> dict[str, str | None]:
        """The restorers that have a file, with why one cannot be used; None: it can."""
        found: dict[str, str | None] = {}
        for name in FACE_RESTORERS:
            if (path := self._path(name)) is not None:
                found[name] = self._reason(name, path)
        return found

    def restore(
        self,
        name: str,
        image: NDArray[np.uint8],
        weight: float,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> NDArray[np.uint8]:
        """Restore the faces of a picture.

        Args:
            name: "CodeFormer" or "GFPGAN".
            image: RGB, uint8 [H, W, 3].
            weight: CodeFormer's fidelity, 0..1: how much a face stays as it was.
            is_wanted: asked before each call of a network.

        Returns:
            the picture, of the same shape.

        Raises:
            Refused: names "face_restorer"; its files are not there, or cannot be used.
            CancelledError: the picture is not wanted any more.
        """
        path = self._path(name)
        if path is None:
            raise Refused("face_restorer", name, f"it has no file in the folder {_FOLDERS[name]}")
        if (reason := self._reason(name, path)) is not None:
            raise Refused("face_restorer", name, f"it cannot be used ({reason})")
        network = self._network(path)
        detection, parsing = (self._network(self._beside(each)) for each in (DETECTION, PARSING))
        options: dict[str, Any] = {"return_rgb": False}
        if name == "CodeFormer":
            options = {"weight": weight, "adain": True}

        def call(callee: nn.Module, face: Tensor, **more: Any) -> Any:
            if not is_wanted():
                raise CancelledError
            with self._turn, torch.inference_mode():
                return callee(face.to(self._device), **more)

        def find(picture: NDArray[np.uint8]) -> Any:
            with self._turn:
                return detection.find(picture)

        return restore_faces(
            image, find, lambda face: call(network, face, **options)[0], lambda face: call(parsing, face)
        )

    def _path(self, name: str) -> Path | None:
        """Its first file; GFPGAN's folder also holds the networks that find and parse faces."""
        found = self._files(_FOLDERS[name], (".pth",))
        return next((path for path in found if name == "CodeFormer" or "GFPGAN" in path.name), None)

    def _beside(self, file_name: str) -> Path:
        for path in self._files(_FOLDERS["GFPGAN"], (".pth",)):
            if path.name == file_name:
                return path
        raise FileNotFoundError(file_name)

    def _files(self, folder: str, endings: tuple[str, ...]) -> Iterator[Path]:
        for each in folders_called(folder, self._models_dir):
            yield from files_below(each, endings)

    def _reason(self, name: str, path: Path) -> str | None:
        try:
            kind = architecture(path)
            for file_name in (DETECTION, PARSING):
                self._beside(file_name)
        except FileNotFoundError as error:
            return f"{error} is missing in the folder {_FOLDERS['GFPGAN']}"
        except ValueError as error:
            needs = "; its network is in the package spandrel_extra_arches, which is not for commercial use"
            return f"{error}{needs if name == 'CodeFormer' else ''}"
        return None if kind == name else f"its tensors are those of {kind}"

    def _read(self, path: Path) -> Any:
        try:
            if path.name == DETECTION:
                return _load_weights(RetinaFace(), path).to(self._device)
            if path.name == PARSING:
                return _load_weights(ParseNet(), path).to(self._device)
            return load_face_restorer(path, self._device)
        except ValueError as error:
            raise Refused("face_restorer", path.name, f"it cannot be used ({error})") from None


_FOLDERS = {"CodeFormer": "Codeformer", "GFPGAN": "GFPGAN"}


def _load_weights(network: Network, path: Path) -> Network:
    """`network` with the weights in a file.

    Raises:
        ValueError: they are another's.
    """
    try:
        network.load_state_dict(read_state(path, "cpu"))
    except RuntimeError:
        raise ValueError(f"its tensors are not those of {type(network).__name__}") from None
    return network.eval()
