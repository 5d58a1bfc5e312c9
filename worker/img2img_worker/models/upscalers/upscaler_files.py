"""Reads upscalers' files without running code in them, and tells their networks by their tensors' names."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from img2img_worker.models.file_cache import read_once
from img2img_worker.models.foreign_files import first_line, reading
from img2img_worker.models.pickles import load_pickle
from img2img_worker.models.upscalers.spandrel_import import spandrel

ENDINGS = (".pth", ".pt", ".safetensors")

#: spandrel's purposes of networks that do not enlarge pictures
_OTHER_PURPOSES = {"Inpainting": "fills holes in pictures", "FaceSR": "restores faces"}
_UNKNOWN = "its tensors are those of no network that spandrel knows"


def architecture(path: Path) -> str:
    """Spandrel's name for the kind of network in a file; read again only after the file has changed.

    Raises:
        ValueError: it holds no network that spandrel knows, or cannot be read.
    """
    try:
        name, reason = _detect(path)
    except OSError as error:
        raise ValueError(f"not readable ({error.strerror})") from None
    if name is None:
        raise ValueError(reason)
    return name


@read_once
def _detect(path: Path) -> tuple[str | None, str]:
    """The architecture's name, or None and why there is none; the tensors' values are not read."""
    try:
        state = read_state(path, "meta")
        with reading():
            for support in _package().MAIN_REGISTRY.architectures("detection"):
                if support.detect(state):
                    return str(support.architecture.name), ""
    except ValueError as error:
        return None, str(error)
    return None, _UNKNOWN


def load(path: Path, device: torch.device) -> Any:
    """The network in a file: spandrel's ``ImageModelDescriptor``, in float32, ready to run.

    Raises:
        ValueError: as `architecture`; or its tensors do not fit together.
    """
    found = _load_descriptor(path, device)
    if found.purpose in _OTHER_PURPOSES:
        raise ValueError(f"{found.architecture.name} {_OTHER_PURPOSES[found.purpose]}")
    channels = found.input_channels, found.output_channels
    if channels != (3, 3):
        raise ValueError(f"it takes {channels[0]} channels and gives {channels[1]}, not 3 and 3")
    return found


def load_face_restorer(path: Path, device: torch.device) -> nn.Module:
    """The network in a file, without spandrel's wrapper, in float32, ready to run.

    Raises:
        ValueError: as `load`.
    """
    network: nn.Module = _load_descriptor(path, device).model
    return network


def _load_descriptor(path: Path, device: torch.device) -> Any:
    package, state = _package(), read_state(path, "cpu")
    if not all(tensor.float().isfinite().all() for tensor in state.values()):
        raise ValueError("it has numbers that are not finite")
    try:
        found = package.ModelLoader(device=device).load_from_state_dict(state)
    except package.UnsupportedModelError:
        raise ValueError(_UNKNOWN) from None
    except torch.OutOfMemoryError:
        raise MemoryError(f"no memory for {path.name} beside what is in flight") from None
    except (RuntimeError, KeyError, ValueError, AssertionError, TypeError, IndexError) as error:
        raise ValueError(f"its tensors do not fit together ({first_line(error)})") from None
    found.to(torch.float32).eval()
    return found


def read_state(path: Path, device: str) -> dict[str, Tensor]:
    """A file's tensors by name, without the levels that trainers wrap them in ("params_ema", "state_dict").

    Args:
        device: "cpu", or "meta" for shapes and types only.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            with safe_open(path, framework="pt", device="cpu") as file:
                state: Any = {key: file.get_tensor(key).to(device) for key in file.keys()}  # noqa: SIM118 (no dict)
        else:
            state = load_pickle(path, device=device)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"not readable ({first_line(error)})") from None
    if not isinstance(state, dict):
        raise ValueError("it holds no tensors by name")
    with reading("it holds more than tensors by name ({})"):
        state = _package().canonicalize_state_dict(state)
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def _package() -> Any:
    try:
        return spandrel()
    except ImportError as error:
        raise ValueError(f"the package spandrel, which runs it, is not installed ({error})") from None
