"""The hypernetworks in a folder, and how an image's are applied to the keys and values of attention."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from img2img_shared.errors import Refused
from img2img_shared.model_folders import files_below
from img2img_shared.prompt_tags import Hypernetwork
from img2img_shared.suggestions import unknown_name
from img2img_worker.models.adapters.hypernetwork_file import Layers, read_hypernetwork
from img2img_worker.models.file_cache import FileCache, FileVersion
from img2img_worker.models.pinned_files import NOTHING_PINNED, PinnedFiles

#: A1111's folder of hypernetworks, in its folder of models
FOLDER = "hypernetworks"
#: bytes of their files that stay on the device between renders; the one used last stays, whatever its size
REMEMBERED = 1 << 30
_KEY, _VALUE = range(2)


@dataclass(frozen=True, kw_only=True)
class HypernetworkSet:
    """An image's hypernetworks, in the order in which they act. Equal if their files and weights are."""

    #: path, time and size of its file, and weight of each
    key: tuple[tuple[str, int, int, float], ...] = ()
    networks: tuple[tuple[Layers, float], ...] = field(default=(), compare=False, repr=False)

    def apply(self, x: Tensor, which: int) -> Tensor:
        """The input of keys (or values) in place of `x` [R, n, d]."""
        for layers, weight in self.networks:
            if (pair := layers.get(x.shape[-1])) is not None:
                given = x.float()
                x = (given + weight * pair[which](given)).to(x.dtype)
        return x


#: the set of an image without hypernetworks
NO_HYPERNETWORKS = HypernetworkSet()


class _Applied(NamedTuple):
    """The applied set, and the networks beside the UNet that have it too."""

    hypernetworks: HypernetworkSet
    beside: tuple[nn.Module, ...]


class Hypernetworks:
    """Finds hypernetworks by name, as A1111 does, and puts them into a UNet.

    They act on the inputs of keys and values: the context or, in self-attention, the picture itself (A1111's
    ``apply_hypernetworks``).

    Args:
        folder: where to look for them; None: there are none.
        unet: diffusers' UNet; None: a network for which there are no hypernetworks.
    """

    def __init__(self, folder: Path | None = None, unet: nn.Module | None = None) -> None:
        self._folder = folder
        self._keys = _named(unet, "to_k")
        self._values = _named(unet, "to_v")
        self._files = FileCache[Layers](REMEMBERED)
        self._applied = _Applied(NO_HYPERNETWORKS, ())
        self._hooks: list[RemovableHandle] = []

    @property
    def names(self) -> list[str]:
        """The files that are there now."""
        return list(self._paths())

    def find(self, wanted: Sequence[Hypernetwork], pinned: PinnedFiles = NOTHING_PINNED) -> HypernetworkSet:
        """These hypernetworks as a set, in this order; thread-safe.

        If a name occurs several times, the last one's weight holds for each, as in A1111.

        Raises:
            Refused: one is not there, is broken, or is for another kind of checkpoint.
            MemoryError: the device has no room for one.
        """
        last = {each.name: each for each in wanted}
        found = [(last[each.name], *self._load(self._path(each.name, pinned))) for each in wanted]
        acting = [part for part in found if part[0].weight != 0]
        return HypernetworkSet(
            key=tuple((*version.key, each.weight) for each, version, _ in acting),
            networks=tuple((layers, each.weight) for each, _, layers in acting),
        )

    def apply(self, hypernetworks: HypernetworkSet, *beside: nn.Module) -> None:
        """Have these hypernetworks, and no others, act on the UNet from now on.

        Args:
            beside: networks that run with the UNet, such as ControlNets, on whose attention they act too.
        """
        beside = tuple(dict.fromkeys(beside))  # several units may share a network
        applied = _Applied(hypernetworks, beside if hypernetworks.networks else ())
        if applied == self._applied:
            return
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._applied = [], applied
        if hypernetworks.networks:
            keys = [*self._keys, *(key for network in beside for key in _named(network, "to_k"))]
            values = [*self._values, *(value for network in beside for value in _named(network, "to_v"))]
            for which, layers in ((_KEY, keys), (_VALUE, values)):
                change = partial(_change, hypernetworks, which)
                self._hooks += [layer.register_forward_pre_hook(change) for layer in layers]

    def _load(self, path: Path) -> tuple[FileVersion, Layers]:
        """A file as it is now, read again if it has changed."""
        try:
            version = FileVersion.of(path)
        except OSError as error:
            raise Refused("hypernetwork", path.stem, f"the file cannot be read ({error.strerror})") from None
        return version, self._files.get(version, lambda: self._read(path))

    def _read(self, path: Path) -> Layers:
        try:
            layers = read_hypernetwork(path, self._keys[0].weight.device)
        except torch.OutOfMemoryError:
            raise MemoryError(f"no memory for hypernetwork {path.stem} beside what is in flight") from None
        widths = {layer.in_features for layer in self._keys}
        if widths.isdisjoint(layers):
            has, own = (", ".join(map(str, sorted(found))) for found in (layers, widths))
            raise Refused(
                "hypernetwork",
                path.stem,
                f"its widths are {has}, and this checkpoint's {own}; use one of its kind",
            )
        return layers

    def _path(self, name: str, pinned: PinnedFiles) -> Path:
        if not self._keys:
            raise Refused("hypernetwork", name, "use it with a checkpoint of SD 1.x, 2.x or XL")
        if (path := pinned.get("hypernetwork", name)) is not None:
            return path
        # looked up, not joined: a name from a prompt is no path
        paths = self._paths()
        if name in paths:
            return paths[name]
        raise Refused("hypernetwork", name, unknown_name("hypernetwork", name, paths))

    def _paths(self) -> dict[str, Path]:
        # a file called None is not listed in A1111, where that means none
        found = {path.stem: path for path in files_below(self._folder, (".pt",)) if path.stem != "None"}
        return dict(sorted(found.items(), key=lambda each: each[0].lower()))


def _named(unet: nn.Module | None, name: str) -> list[nn.Linear]:
    modules = [] if unet is None else unet.named_modules()
    return [module for path, module in modules if path.endswith(f".{name}") and isinstance(module, nn.Linear)]


def _change(hypernetworks: HypernetworkSet, which: int, _: nn.Module, given: tuple[Any, ...]) -> Tensor:
    return hypernetworks.apply(given[0], which)
