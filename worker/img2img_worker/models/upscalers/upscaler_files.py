"""Upscalers' files: read without running what is in them, and told apart by their tensors' names."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from img2img_worker.models.pickles import load_pickle
from img2img_worker.models.upscalers.spandrel_import import spandrel

ENDINGS = (".pth", ".pt", ".safetensors")

#: what spandrel's networks are for that do not enlarge pictures
_OTHER_PURPOSES = {"Inpainting": "fills holes in pictures", "FaceSR": "restores faces"}


def architecture(path: Path) -> str:
    """What kind of network a file holds, by spandrel's name; its tensors' values are not read.

    Raises:
        ValueError: none that enlarges pictures, or it cannot be read.
    """
    state = read_state(path, "meta")
    for support in _package().MAIN_REGISTRY.architectures("detection"):
        if support.detect(state):
            return str(support.architecture.name)
    raise ValueError("its tensors are those of no network that spandrel knows")


def load(path: Path, device: torch.device) -> Any:
    """The network in a file: spandrel's ``ImageModelDescriptor``, in float32, ready to run.

    Raises:
        ValueError: as `architecture`; or its tensors do not fit together.
    """
    found = _described(path, device)
    if found.purpose in _OTHER_PURPOSES:
        raise ValueError(f"{found.architecture.name} {_OTHER_PURPOSES[found.purpose]}")
    channels = found.input_channels, found.output_channels
    if channels != (3, 3):
        raise ValueError(f"it takes {channels[0]} channels and gives {channels[1]}, not 3 and 3")
    return found


def load_face_restorer(path: Path, device: torch.device) -> nn.Module:
    """The network in a file, in its authors' own dress, in float32, ready to run.

    Raises:
        ValueError: as `load`.
    """
    network: nn.Module = _described(path, device).model
    return network


def _described(path: Path, device: torch.device) -> Any:
    package = _package()
    try:
        found = package.ModelLoader(device=device).load_from_state_dict(read_state(path, "cpu"))
    except package.UnsupportedModelError:
        raise ValueError("its tensors are those of no network that spandrel knows") from None
    except torch.OutOfMemoryError:
        raise MemoryError(f"no memory for {path.name} beside what is in flight") from None
    except (RuntimeError, KeyError, ValueError, AssertionError, TypeError, IndexError) as error:
        raise ValueError(f"its tensors do not fit together ({_line(error)})") from None
    found.to(torch.float32).eval()
    return found


def read_state(path: Path, device: str) -> dict[str, Tensor]:
    """A file's tensors, out of what its trainer wrapped them in.

    Args:
        device: "meta": their shapes only.

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
        raise ValueError(f"not readable ({_line(error)})") from None
    if not isinstance(state, dict):
        raise ValueError("it holds no tensors by name")
    state = _package().canonicalize_state_dict(state)
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def _package() -> Any:
    try:
        return spandrel()
    except ImportError as error:
        raise ValueError(f"spandrel is not installed, which runs it ({error})") from None


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
