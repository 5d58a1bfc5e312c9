"""The control networks in folders, for one checkpoint: loaded when a picture wants them."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from img2img_shared.checkpoints import is_a1111_tree
from img2img_shared.control import UNION_TYPES, UnionType, meant
from img2img_shared.errors import Refused
from img2img_shared.folders import files_below
from img2img_shared.suggestions import one_of, unknown_name
from img2img_worker.models.control.networks import ControlNetwork, UnionControlNet
from img2img_worker.models.control.reading import read_network

#: where A1111 has them below its folder of models, and the extension in its own
FOLDER, OF_EXTENSION = "ControlNet", Path("extensions/sd-webui-controlnet/models")
ENDINGS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
#: bytes of networks that stay on the device between renders; the last one stays whatever its size
REMEMBERED = 4 << 30
#: what diffusers calls a network's file, which its folder has the name of
_DIFFUSERS = "diffusion_pytorch_model"


class ControlNets:
    """Finds networks by name, as A1111's extension does; those least used make room.

    Args:
        folders: where they may lie; none: there are none.
        unet: of the checkpoint; None: no control network goes with its kind.
        own: the UNet's weights as they are without LoRAs.
    """

    def __init__(
        self,
        folders: tuple[Path, ...],
        unet: Any,
        own: Callable[[], Mapping[str, Tensor]] = dict,
        *,
        device: torch.device,
        dtype: torch.dtype,
        allow_pickles: bool = False,
    ) -> None:
        self._folders = folders
        self._unet, self._own = unet, own
        self._device, self._dtype = device, dtype
        self._allow_pickles = allow_pickles
        self._loaded: OrderedDict[str, ControlNetwork] = OrderedDict()
        self._loading = threading.Lock()

    @property
    def titles(self) -> list[str]:
        """As A1111's extension lists them: "control_v11p_sd15_canny [d14c016b]"."""
        return [f"{name} [{_short_hash(path)}]" for name, path in self._paths().items()]

    def find(self, model: str, kind: UnionType = "Unknown") -> ControlNetwork:
        """The network that `model` means: a title, a name, or a part of one in any case; thread-safe.

        Args:
            kind: of the pictures that a union of networks is to look at; to others it is nothing.

        Raises:
            Refused: there is none, it is broken, or meant for another kind of checkpoint.
            MemoryError: the device has no room for it.
        """
        path = self._path(model)
        try:
            about = path.stat()
        except OSError as error:
            raise Refused("control.model", model, f"the file cannot be read ({error.strerror})") from None
        key = f"{path} {about.st_mtime_ns} {about.st_size}"
        with self._loading:
            network = self._loaded.pop(key, None) or self._read(path, key)
            self._loaded[key] = network
            while len(self._loaded) > 1 and sum(each.n_bytes for each in self._loaded.values()) > REMEMBERED:
                self._loaded.popitem(last=False)
        return _of_kind(network, kind, path) if isinstance(network, UnionControlNet) else network

    def _path(self, model: str) -> Path:
        paths = self._paths()
        name = meant(model, paths, {f"{name} [{_short_hash(path)}]": name for name, path in paths.items()})
        if name is not None:
            return paths[name]
        if not self._folders:
            reason = f"set IMG2IMG_MODELS_DIR, whose folder {FOLDER} holds control networks"
            raise Refused("control.model", model, reason)
        raise Refused("control.model", model, unknown_name("control network", model, paths))

    def _paths(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder in self._folders:
            for path in sorted(files_below(folder, ENDINGS), key=lambda path: path.name):
                is_diffusers = path.stem.startswith(_DIFFUSERS) and path.parent != folder
                found.setdefault(path.parent.name if is_diffusers else path.stem, path)
        return found

    def _read(self, path: Path, key: str) -> ControlNetwork:
        if self._unet is None:
            raise Refused(
                "control.model", path.stem, "control networks work with SD 1, 2 and XL only; leave it out"
            )
        try:
            return read_network(
                path,
                self._unet,
                self._own,
                key=key,
                device=self._device,
                dtype=self._dtype,
                allow_pickles=self._allow_pickles,
            )
        except torch.OutOfMemoryError:
            raise MemoryError(f"no memory for control network {path.stem} beside what is in flight") from None


def _of_kind(network: UnionControlNet, kind: UnionType, path: Path) -> ControlNetwork:
    """A union that looks at pictures of that kind; with others of its kinds it shares all but its calls."""
    known = UNION_TYPES[: network.network.config.num_control_type]
    if kind not in known:
        raise Refused("control.union_control_type", kind, f"{path.stem} wants to be told: {one_of(known)}")
    return replace(network, kind=known.index(kind), key=f"{network.key} {kind}")


def folders_for(models_dir: Path | None) -> tuple[Path, ...]:
    """Where control networks lie for a folder of models."""
    if models_dir is None:
        return ()
    beside = (models_dir.parent / OF_EXTENSION,) if is_a1111_tree(models_dir) else ()
    return (models_dir / FOLDER, *beside)


def _short_hash(path: Path) -> str:
    """A1111's old hash, by which ControlNet's titles tell files apart."""
    try:
        about = path.stat()
    except OSError:
        return ""
    return _read_short_hash(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=4096)
def _read_short_hash(path: Path, _modified: int, _size: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0x100000)
            return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]
    except OSError:
        return ""
