"""Finds the control networks for one checkpoint in folders, and loads them when a picture uses them."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import torch

from img2img_shared.control import ControlUnit, UnionType, find_name
from img2img_shared.control_modules import Module
from img2img_shared.errors import Refused, Summary
from img2img_shared.lru_cache import LruCache
from img2img_shared.model_folders import files_below
from img2img_shared.suggestions import one_of, unknown_name
from img2img_worker.models.control.clip_vision import ClipVision, find_file
from img2img_worker.models.control.files import name_of
from img2img_worker.models.control.image_prompt import ImagePromptAdapter, ImagePromptNetwork
from img2img_worker.models.control.networks import ControlNetwork
from img2img_worker.models.file_cache import FileVersion, read_once
from img2img_worker.models.foreign_files import first_line
from img2img_worker.models.kind_folders import kind_folders
from img2img_worker.models.pinned_files import NOTHING_PINNED, PinnedFiles

#: where they are in a folder of models, as in A1111's, and in its extension's own folder
FOLDER, OF_EXTENSION = "ControlNet", Path("extensions/sd-webui-controlnet/models")
ENDINGS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
#: bytes of networks that stay on the device between renders; the last one stays whatever its size
REMEMBERED = 4 << 30
_Loaded = ControlNetwork | ImagePromptAdapter | ClipVision


class ControlNets:
    """Finds networks by name, as A1111's extension does; the least recently used make room for others.

    Args:
        folders: where to look for them; may be empty.
        read: loads the network for the checkpoint from a file, under a key that no other network has.
        clip_folders: where to look for IP-Adapters' image encoders.
        read_clip: loads one of those, in the same way.
    """

    def __init__(
        self,
        folders: tuple[Path, ...],
        read: Callable[[Path, str], ControlNetwork | ImagePromptAdapter],
        clip_folders: tuple[Path, ...],
        read_clip: Callable[[Path, str], ClipVision],
    ) -> None:
        self._folders, self._clip_folders = folders, clip_folders
        self._read, self._read_clip = read, read_clip
        self._loaded: LruCache[str, _Loaded] = LruCache(lambda network: network.n_bytes)
        self._loading = threading.Lock()

    @property
    def titles(self) -> list[str]:
        """As A1111's extension lists them: "control_v11p_sd15_canny [d14c016b]"."""
        return [f"{name} [{_short_hash(path)}]" for name, path in self._paths().items()]

    def of_unit(
        self, unit: ControlUnit, pinned: PinnedFiles = NOTHING_PINNED
    ) -> ControlNetwork | ImagePromptNetwork | None:
        """The network that a unit's model and module name; None: its module needs none. Thread-safe.

        Raises:
            Refused, MemoryError: as `find`.
        """
        if not unit.preprocessor.needs_network:
            return None
        if unit.preprocessor.is_image_prompt:
            found = self.find_image_prompt(unit.model, unit.preprocessor, pinned)
            n, given = found.adapter.n_blocks, unit.advanced_weighting
            if given is not None and len(given) != n:
                reason = f"{found.adapter.name} takes {n}, one for each transformer of the UNet"
                raise Refused("control.advanced_weighting", Summary(f"{len(given)} numbers"), reason)
            return found
        return self.find(unit.model, unit.union_control_type, pinned)

    def find(
        self, model: str, kind: UnionType = "Unknown", pinned: PinnedFiles = NOTHING_PINNED
    ) -> ControlNetwork:
        """The network that `model` names by its title, its name, or a part of one in any case. Thread-safe.

        Args:
            kind: of the control picture, for a union network; others ignore it.
            pinned: the files that names stand for, before those in the folders.

        Raises:
            Refused: there is none, it is broken, or it is for another kind of checkpoint.
            MemoryError: the device has no room for it.
        """
        path = self._path(model, pinned)
        with self._loading:
            network = self._load(path, self._read)
            self._loaded.trim(REMEMBERED)
        if isinstance(network, ImagePromptAdapter | ClipVision):
            reason = "it is an IP-Adapter; use it with module ip-adapter-auto"
            raise Refused("control.model", model, reason)
        if not network.kinds:
            return network
        if kind not in network.kinds:
            reason = f"{name_of(path)} needs to know the kind of control picture: {one_of(network.kinds)}"
            raise Refused("control.union_control_type", kind, reason)
        return network.for_kind(kind)

    def find_image_prompt(
        self, model: str, module: Module, pinned: PinnedFiles = NOTHING_PINNED
    ) -> ImagePromptNetwork:
        """The IP-Adapter that `model` names, with its image encoder; otherwise as `find`.

        Args:
            module: names the image encoder, or leaves the choice to the adapter.
        """
        path = self._path(model, pinned)
        with self._loading:
            adapter = self._load(path, self._read)
            if not isinstance(adapter, ImagePromptAdapter):
                reason = f"it is no IP-Adapter, as module {module.title} needs; use one, or module none"
                raise Refused("control.model", model, reason)
            clip = find_file(module.clip or adapter.clip, self._clip_folders)
            encoder = self._load(clip, self._read_clip)
            if not isinstance(encoder, ClipVision) or not adapter.fits(encoder):
                reason = f"{name_of(path)} was trained with another image encoder than {clip.name}"
                raise Refused("control.module", module.title, f"{reason}; use ip-adapter-auto")
            self._loaded.trim(REMEMBERED, keep=2)
        return ImagePromptNetwork(adapter=adapter, encoder=encoder)

    def _load(self, path: Path, read: Callable[[Path, str], _Loaded]) -> _Loaded:
        """The network in a file as it is now; it becomes the most recently used."""
        try:
            key = " ".join(map(str, FileVersion.of(path).key))
        except OSError as error:
            raise Refused("control.model", path.stem, f"the file cannot be read ({error.strerror})") from None
        try:
            loaded = self._loaded.get(key) or read(path, key)
        except torch.OutOfMemoryError:
            raise MemoryError(
                f"no memory for control network {name_of(path)} beside what is in flight"
            ) from None
        except (LookupError, ValueError) as error:
            # the tensors by which its kind is known are there, but others are missing or of another shape
            reason = f"it is no complete network ({first_line(error)}); use another copy"
            raise Refused("control.model", name_of(path), reason) from None
        self._loaded.put(key, loaded)
        return loaded

    def _path(self, model: str, pinned: PinnedFiles) -> Path:
        if (path := pinned.get("control", model)) is not None:
            return path
        paths = self._paths()
        name = find_name(
            model, paths, {f"{name} [{_short_hash(path)}]": name for name, path in paths.items()}
        )
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
                found.setdefault(path.stem if path.parent == folder else name_of(path), path)
        return found


def control_folders(models_dir: Path | None) -> tuple[Path, ...]:
    """Where control networks are looked for, given a folder of models."""
    return kind_folders(models_dir, FOLDER, OF_EXTENSION)


def _short_hash(path: Path) -> str:
    """A1111's old hash, which ControlNet's titles contain."""
    try:
        return _read_short_hash(path)
    except OSError:
        return ""


@read_once
def _read_short_hash(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(0x100000)
        return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]
