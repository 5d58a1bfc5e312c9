"""Finds and loads preprocessors' networks: files of weights, ONNX files, and transformers' folders."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import nn

from img2img_shared.errors import Refused
from img2img_shared.model_folders import files_below
from img2img_worker.models.checkpoints.weights import assemble, read_weights
from img2img_worker.models.control.drawing_networks import Weights
from img2img_worker.models.foreign_files import first_line
from img2img_worker.models.kind_folders import kind_folders

#: where they are in a folder of models, and where A1111's extension puts its downloads
FOLDER, OF_EXTENSION = "annotators", Path("extensions/sd-webui-controlnet/annotator/downloads")
ENDINGS = (".safetensors", ".pth", ".pt")
#: the prefix that training on several devices (DataParallel) puts before the names of weights
_PARALLEL = "module."
#: the file by which a folder is known as a model of transformers
_CONFIG = "config.json"


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where networks are looked for, and where they run."""

    folders: Sequence[Path]
    device: torch.device
    allow_pickles: bool

    def files(self, endings: Iterable[str]) -> Iterator[Path]:
        """All files with one of the endings."""
        return (path for folder in self.folders for path in files_below(folder, tuple(endings)))


def annotator_folders(models_dir: Path | None) -> tuple[Path, ...]:
    """Where networks are looked for: in the folder of models, and in an A1111 extension beside it."""
    return kind_folders(models_dir, FOLDER, OF_EXTENSION)


@dataclass(frozen=True)
class WeightsFile:
    """A network that is implemented here, and whose weights are in one file."""

    name: str
    make: Callable[[Weights], nn.Module]
    #: the ending that its published file has
    published: str = ".pth"

    def load(self, places: Places) -> nn.Module:
        """
        Raises:
            Refused: the file is missing, cannot be read, or holds other weights.
        """
        path = next((path for path in places.files(ENDINGS) if path.stem == self.name), None)
        if path is None:
            raise _missing(f"{FOLDER}/{self.name}.safetensors, or {self.published}")
        try:
            read = read_weights(path, allow_pickles=places.allow_pickles)
            weights = {name.removeprefix(_PARALLEL): weight for name, weight in read.items()}
            make = partial(self.make, weights)
            return assemble(make, weights, device=places.device, dtype=torch.float32, source=path.name)
        except Refused as error:
            raise _unusable(path.name, error.reason) from None


@dataclass(frozen=True)
class OnnxFile:
    """A network that OpenCV runs, on the CPU."""

    name: str

    def load(self, places: Places) -> Any:
        """
        Raises:
            Refused: it is not there, or OpenCV cannot read it.
        """
        file = f"{self.name}.onnx"
        path = next((path for path in places.files((".onnx",)) if path.name == file), None)
        if path is None:
            raise _missing(f"{FOLDER}/{file}")
        try:
            return cv2.dnn.readNetFromONNX(str(path))
        except cv2.error as error:
            raise _unusable(file, first_line(error)) from None


@dataclass(frozen=True)
class TransformersFolder:
    """A model of transformers with its processor, in a folder of its module's name."""

    name: str
    #: transformers' auto class for its task
    auto_class: str

    def load(self, places: Places) -> tuple[Any, Any]:
        """
        Raises:
            Refused: it is not there, or transformers cannot read it.
        """
        # imported here: it takes seconds, and few workers need it
        import transformers

        folder = next((at / self.name for at in places.folders if (at / self.name / _CONFIG).is_file()), None)
        if folder is None:
            raise _missing(f"a transformers model ({FOLDER}/{self.name}/{_CONFIG} and its weights)")
        auto = getattr(transformers, self.auto_class)
        try:
            processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
            network = auto.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        except Exception as error:  # transformers raises many kinds for a broken folder
            raise _unusable(folder.name, first_line(error)) from None
        return processor, network.to(places.device).eval()


NetworkFile = WeightsFile | OnnxFile | TransformersFolder


def _missing(wanted: str) -> Refused:
    return Refused("control.module", None, f"its network is missing: put {wanted} in IMG2IMG_MODELS_DIR")


def _unusable(name: str, reason: str) -> Refused:
    return Refused("control.module", None, f"{name} cannot be used: {reason}")
