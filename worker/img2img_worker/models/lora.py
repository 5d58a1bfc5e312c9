"""The LoRAs in a folder, for one checkpoint."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from img2img_shared.errors import Refused
from img2img_worker.models.lora_file import Factors, read_lora
from img2img_worker.models.lora_patch import PLAIN, Layer, Patch, Patched
from img2img_worker.models.original import unet_name
from img2img_worker.models.prompts import Lora

#: where A1111 has them below its folder of models
FOLDER = "Lora"
#: bytes of LoRAs that stay on the device between renders; the last one stays whatever its size
REMEMBERED = 1 << 30
#: how many names a refusal lists
_NAMED = 20


@dataclass(frozen=True, kw_only=True)
class LoraSet:
    """What the LoRAs of one prompt add to a checkpoint."""

    text: Patch = PLAIN
    denoiser: Patch = PLAIN


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """One file, on the device."""

    time: int
    size: int
    text: Mapping[str, Factors]
    denoiser: Mapping[str, Factors]


class Loras:
    """Finds LoRAs by name: ``cat`` is ``cat.safetensors`` in the folder or, as in A1111, anywhere below it.

    Args:
        folder: None: there are none.
        denoiser: a UNet or a transformer.
        texts: the CLIP text models, one or two.
    """

    def __init__(self, folder: Path | None, denoiser: nn.Module, texts: Sequence[nn.Module]) -> None:
        self._folder = folder
        self.denoiser = Patched(_denoiser_layers(denoiser))
        self.texts = Patched(_text_layers(texts))
        self._aliases = _original_names(denoiser)
        self._loaded: OrderedDict[Path, _Loaded] = OrderedDict()
        self._loading = threading.Lock()

    def find(self, loras: Sequence[Lora]) -> LoraSet:
        """What these add together; thread-safe. Of the same name several times, the weights add up.

        Raises:
            Refused: one is not there, is broken, or is meant for another kind of checkpoint.
        MemoryError: the device has no room for one.
        """
        wanted: dict[str, tuple[float, float]] = {}
        for lora in loras:
            text, denoiser = wanted.get(lora.name, (0.0, 0.0))
            wanted[lora.name] = (text + lora.text_weight, denoiser + lora.unet_weight)
        found = [(name, self._load(name), *wanted[name]) for name in sorted(wanted)]
        return LoraSet(
            text=_patch([(name, file, file.text, weight) for name, file, weight, _ in found]),
            denoiser=_patch([(name, file, file.denoiser, weight) for name, file, _, weight in found]),
        )

    def _load(self, name: str) -> _Loaded:
        """The file of that name as it is now, read again if it has changed."""
        path = self._path(name)
        try:
            about = path.stat()
        except OSError as error:
            raise Refused("lora", name, f"a readable file ({error.strerror})") from None
        with self._loading:
            loaded = self._loaded.pop(path, None)
            if loaded is None or (loaded.time, loaded.size) != (about.st_mtime_ns, about.st_size):
                loaded = self._read(path, about.st_mtime_ns, about.st_size)
            self._loaded[path] = loaded
            while len(self._loaded) > 1 and sum(file.size for file in self._loaded.values()) > REMEMBERED:
                self._loaded.popitem(last=False)
        return loaded

    def _path(self, name: str) -> Path:
        if self._folder is None:
            allowed = f"none: IMG2IMG_MODELS_DIR is not set, whose folder {FOLDER} would hold LoRAs"
            raise Refused("lora", name, allowed)
        # looked up, not joined: a name from a prompt is no path
        paths = {path.stem: path for path in sorted(self._folder.rglob("*.safetensors"))}
        if name not in paths:
            more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
            raise Refused("lora", name, (", ".join([*paths][:_NAMED]) or "none, there are no others") + more)
        return paths[name]

    def _read(self, path: Path, time: int, size: int) -> _Loaded:
        factors = {self._aliases.get(layer, layer): own for layer, own in read_lora(path).items()}
        text = {layer: own for layer, own in factors.items() if layer.startswith("lora_te")}
        denoiser = {layer: own for layer, own in factors.items() if layer not in text}
        try:
            return _Loaded(
                time=time,
                size=size,
                text=self.texts.fitted(text),
                denoiser=self.denoiser.fitted(denoiser),
            )
        except ValueError as error:
            raise Refused("lora", path.stem, f"one for this kind of checkpoint: {error}") from None
        except torch.OutOfMemoryError:
            raise MemoryError(f"no memory for LoRA {path.stem} beside what is in flight") from None


def _patch(parts: Sequence[tuple[str, _Loaded, Mapping[str, Factors], float]]) -> Patch:
    """Of (name, file, its layers, weight) each; what changes nothing is left out."""
    acting = [part for part in parts if part[2] and part[3] != 0]
    return Patch(
        key=tuple((name, file.time, file.size, weight) for name, file, _, weight in acting),
        parts=tuple((layers, weight) for _, _, layers, weight in acting),
    )


def _denoiser_layers(denoiser: nn.Module) -> dict[str, Layer]:
    return {_kohya(name): layer for name, layer in _layers(denoiser).items()}


def _text_layers(texts: Sequence[nn.Module]) -> dict[str, Layer]:
    return {
        f"lora_te{number}_{name.removeprefix('text_model.').replace('.', '_')}": layer
        for number, text in enumerate(texts, 1)
        for name, layer in _layers(text).items()
    }


def _original_names(denoiser: Any) -> dict[str, str]:
    """A UNet's layers under the names of the original layout, which LoRAs of SDXL have, to diffusers'."""
    layers = getattr(getattr(denoiser, "config", None), "layers_per_block", None)
    if not isinstance(layers, int):
        return {}
    keys = list(denoiser.state_dict())
    names = {name: unet_name(f"{name}.weight", keys, layers=layers) for name in _layers(denoiser)}
    return {_kohya(theirs.removesuffix(".weight")): _kohya(ours) for ours, theirs in names.items()}


def _layers(network: nn.Module) -> dict[str, Layer]:
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, Layer)}


def _kohya(name: str) -> str:
    return f"lora_unet_{name.replace('.', '_')}"
