"""The LoRAs in a folder, for one checkpoint."""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from img2img_shared.errors import Refused
from img2img_shared.model_folders import files_below
from img2img_shared.prompt_tags import Lora, take_extra_networks
from img2img_shared.suggestions import unknown_name
from img2img_worker.models.adapters.lora_file import metadata, read_bundle, read_lora, short_hash
from img2img_worker.models.adapters.lora_keys import Place, denoiser_layers, original_places, text_layers
from img2img_worker.models.adapters.low_rank import Adapter
from img2img_worker.models.adapters.patch import NO_PATCH, Patch
from img2img_worker.models.adapters.patched import Patched
from img2img_worker.models.pinned_files import NOTHING_PINNED, PinnedFiles

#: where A1111 has them below its folder of models
FOLDER = "Lora"
#: bytes of LoRAs that stay on the device between renders; the last one stays whatever its size
REMEMBERED = 1 << 30


@dataclass(frozen=True, kw_only=True)
class LoraSet:
    """What the LoRAs of one prompt add to a checkpoint."""

    text: Patch = NO_PATCH
    denoiser: Patch = NO_PATCH
    #: those whose files bring textual inversions
    bundles: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """One file, on the device."""

    path: Path
    time: int
    size: int
    text: Mapping[str, Adapter]
    denoiser: Mapping[str, Adapter]
    #: textual inversions that come with it, by name: what files of theirs hold
    bundle: Mapping[str, Mapping[str, Any]]

    @property
    def key(self) -> tuple[str, int, int]:
        """Another one for another file."""
        return str(self.path), self.time, self.size


class Loras:
    """Finds LoRAs by name, as A1111 does.

    ``cat`` is ``cat.safetensors`` anywhere in the folder, or else the file whose trainer called it so
    (``ss_output_name`` in its metadata).

    Args:
        folder: None: there are none.
        denoiser: a UNet or a transformer.
        texts: the CLIP text models, one or two.
    """

    def __init__(self, folder: Path | None, denoiser: nn.Module, texts: Sequence[nn.Module]) -> None:
        self._folder = folder
        self.denoiser = Patched(denoiser_layers(denoiser))
        self.texts = Patched(text_layers(texts))
        self._places = original_places(denoiser)
        self._loaded: OrderedDict[Path, _Loaded] = OrderedDict()
        self._loading = threading.Lock()

    @property
    def names(self) -> dict[str, str]:
        """The files that are there now, and what their trainers called them: prompts may name either."""
        return {name: _alias(path) or name for name, path in self._paths().items()}

    def find(
        self, loras: Sequence[Lora], *, by_row: bool = False, pinned: PinnedFiles = NOTHING_PINNED
    ) -> LoraSet:
        """What these add together, in that order; thread-safe.

        Of the same name several times, the last one's weights hold for each, as in A1111.

        Args:
            by_row: where they are products, rows of one call may have others.
            pinned: which files are meant by names, in place of the folder's.

        Raises:
            Refused: one is not there, is broken, or is meant for another kind of checkpoint.
            MemoryError: the device has no room for one.
        """
        last = {lora.name: lora for lora in loras}
        found = [(last[lora.name], self._load(lora.name, pinned)) for lora in loras]
        return LoraSet(
            text=_patch([(lora, file, file.text, lora.text_weight) for lora, file in found], by_row),
            denoiser=_patch([(lora, file, file.denoiser, lora.unet_weight) for lora, file in found], by_row),
            bundles=tuple(dict.fromkeys(lora.name for lora, file in found if file.bundle)),
        )

    def bundled(
        self, name: str, pinned: PinnedFiles = NOTHING_PINNED
    ) -> tuple[Hashable, Mapping[str, Mapping[str, Any]]]:
        """The textual inversions that come with a LoRA, and what is another where its file is; thread-safe.

        Raises:
            Refused: it is not there, or is broken.
        """
        loaded = self._load(name, pinned)
        return loaded.key, loaded.bundle

    def hashes(self, prompt: str, pinned: PinnedFiles = NOTHING_PINNED) -> dict[str, str]:
        """A1111's short hash of each LoRA that a prompt without comments names, by that name; thread-safe.

        Raises:
            Refused: one is not there.
        """
        loras = take_extra_networks(prompt).loras
        return {lora.name: short_hash(self._path(lora.name, pinned)) for lora in loras}

    def _load(self, name: str, pinned: PinnedFiles) -> _Loaded:
        """The file of that name as it is now, read again if it has changed."""
        path = self._path(name, pinned)
        try:
            about = path.stat()
        except OSError as error:
            raise Refused("lora", name, f"the file cannot be read ({error.strerror})") from None
        with self._loading:
            loaded = self._loaded.pop(path, None)
            if loaded is None or (loaded.time, loaded.size) != (about.st_mtime_ns, about.st_size):
                loaded = self._read(path, about.st_mtime_ns, about.st_size)
            self._loaded[path] = loaded
            while len(self._loaded) > 1 and sum(file.size for file in self._loaded.values()) > REMEMBERED:
                self._loaded.popitem(last=False)
        return loaded

    def _path(self, name: str, pinned: PinnedFiles) -> Path:
        if (path := pinned.get("lora", name)) is not None:
            return path
        if self._folder is None:
            reason = f"set IMG2IMG_MODELS_DIR, whose folder {FOLDER} holds LoRAs"
            raise Refused("lora", name, reason)
        # looked up, not joined: a name from a prompt is no path
        paths = self._paths()
        if name in paths:
            return paths[name]
        for path in reversed(paths.values()):
            if _alias(path) == name:
                return path
        raise Refused("lora", name, unknown_name("LoRA", name, paths))

    def _paths(self) -> dict[str, Path]:
        return {path.stem: path for path in files_below(self._folder, (".safetensors",))}

    def _read(self, path: Path, time: int, size: int) -> _Loaded:
        adapters = {
            name: (adapter, self._places.get(name, (Place(layer=name),)))
            for name, adapter in read_lora(path).items()
        }
        text = {name: own for name, own in adapters.items() if name.startswith("lora_te")}
        denoiser = {name: own for name, own in adapters.items() if name not in text}
        try:
            return _Loaded(
                path=path,
                time=time,
                size=size,
                text=self.texts.fitted(text),
                denoiser=self.denoiser.fitted(denoiser),
                bundle=read_bundle(path),
            )
        except ValueError as error:
            raise Refused(
                "lora",
                path.stem,
                f"it does not fit this kind of checkpoint ({error}); use one that was trained for it",
            ) from None
        except torch.OutOfMemoryError:
            raise MemoryError(f"no memory for LoRA {path.stem} beside what is in flight") from None


def _alias(path: Path) -> str | None:
    """What the trainer of a file called it."""
    try:
        about = path.stat()
    except OSError:
        return None
    return _read_alias(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=4096)
def _read_alias(path: Path, _modified: int, _size: int) -> str | None:
    return metadata(path).get("ss_output_name")


def _patch(parts: Sequence[tuple[Lora, _Loaded, Mapping[str, Adapter], float]], by_row: bool) -> Patch:
    """Of (LoRA, file, its layers, weight) each; what changes nothing is left out."""
    acting = [part for part in parts if part[2] and part[3] != 0]
    patch = Patch(
        key=tuple((*file.key, weight, lora.dyn) for lora, file, _, weight in acting),
        parts=tuple(
            ({name: adapter.cut(lora.dyn) for name, adapter in layers.items()}, weight)
            for lora, _, layers, weight in acting
        ),
    )
    return replace(patch, is_by_row=True) if by_row and patch.has_products else patch
