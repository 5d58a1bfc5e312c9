"""The LoRAs that the images of one checkpoint may have, found by name in a folder."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from img2img_worker.models.file_cache import FileCache, FileVersion, read_once
from img2img_worker.models.pinned_files import NOTHING_PINNED, PinnedFiles

#: A1111's folder of LoRAs, in its folder of models
FOLDER = "Lora"
#: bytes of LoRAs' files that stay on the device between renders; the one used last stays, whatever its size
REMEMBERED = 1 << 30


@dataclass(frozen=True, kw_only=True)
class LoraSet:
    """What the LoRAs of one prompt add to a checkpoint."""

    text: Patch = NO_PATCH
    denoiser: Patch = NO_PATCH
    #: names of the LoRAs whose files bring textual inversions
    bundles: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """One file's adapters, on the device."""

    version: FileVersion
    text: Mapping[str, Adapter]
    denoiser: Mapping[str, Adapter]
    #: the textual inversions that come with it, by name, each as its own file would hold it
    bundle: Mapping[str, Mapping[str, Any]]


class Loras:
    """Finds LoRAs by name, as A1111 does.

    ``cat`` is ``cat.safetensors`` anywhere in the folder, or else the file whose metadata has this
    ``ss_output_name``, which trainers write.

    Args:
        folder: where to look for them; None: there are none.
        denoiser: a UNet or a transformer.
        texts: the text models, in the order of kohya's numbers.
    """

    def __init__(self, folder: Path | None, denoiser: nn.Module, texts: Sequence[nn.Module]) -> None:
        self._folder = folder
        self.denoiser = Patched(denoiser_layers(denoiser))
        self.texts = Patched(text_layers(texts))
        self._places = original_places(denoiser)
        self._files = FileCache[_Loaded](REMEMBERED)

    @property
    def names(self) -> dict[str, str]:
        """The files that are there now, and their trainers' names for them; prompts may use either."""
        return {name: _alias(path) or name for name, path in self._paths().items()}

    def find(
        self, loras: Sequence[Lora], *, by_row: bool = False, pinned: PinnedFiles = NOTHING_PINNED
    ) -> LoraSet:
        """What these LoRAs add, in this order; thread-safe.

        If a name occurs several times, the last one's weights hold for each, as in A1111.

        Args:
            by_row: whether rows of one call may have different LoRAs, where these are products.
            pinned: the files that a job means by its names, which win over the folder's.

        Raises:
            Refused: a LoRA is not there, is broken, or is for another kind of checkpoint.
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
        """The textual inversions that come with a LoRA, after a key that identifies its file; thread-safe.

        Raises:
            Refused: it is not there, or is broken.
        """
        loaded = self._load(name, pinned)
        return loaded.version.key, loaded.bundle

    def hashes(self, prompt: str, pinned: PinnedFiles = NOTHING_PINNED) -> dict[str, str]:
        """A1111's short hash of each LoRA that a prompt (without comments) names, by that name; thread-safe.

        Raises:
            Refused: one is not there.
        """
        loras = take_extra_networks(prompt).loras
        return {lora.name: short_hash(self._path(lora.name, pinned)) for lora in loras}

    def _load(self, name: str, pinned: PinnedFiles) -> _Loaded:
        """The file of that name, read again if it has changed."""
        path = self._path(name, pinned)
        try:
            version = FileVersion.of(path)
        except OSError as error:
            raise Refused("lora", name, f"the file cannot be read ({error.strerror})") from None
        return self._files.get(version, lambda: self._read(version))

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

    def _read(self, version: FileVersion) -> _Loaded:
        path = version.path
        adapters = {
            name: (adapter, self._places.get(name, (Place(layer=name),)))
            for name, adapter in read_lora(path).items()
        }
        text = {name: own for name, own in adapters.items() if name.startswith("lora_te")}
        denoiser = {name: own for name, own in adapters.items() if name not in text}
        try:
            return _Loaded(
                version=version,
                text=self.texts.fit(text),
                denoiser=self.denoiser.fit(denoiser),
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
    """The name that the trainer of a file gave it; None: none, or the file is not there any more."""
    try:
        return _read_alias(path)
    except OSError:
        return None


@read_once
def _read_alias(path: Path) -> str | None:
    return metadata(path).get("ss_output_name")


def _patch(parts: Sequence[tuple[Lora, _Loaded, Mapping[str, Adapter], float]], by_row: bool) -> Patch:
    """The patch of some (LoRA, file, its layers, weight); those that change nothing are left out."""
    acting = [part for part in parts if part[2] and part[3] != 0]
    patch = Patch(
        key=tuple((*file.version.key, weight, lora.dyn) for lora, file, _, weight in acting),
        parts=tuple(
            ({name: adapter.cut(lora.dyn) for name, adapter in layers.items()}, weight)
            for lora, _, layers, weight in acting
        ),
    )
    return replace(patch, is_by_row=True) if by_row and patch.has_products else patch
