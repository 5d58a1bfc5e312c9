"""The upscalers of a worker: networks on its device beside the checkpoint, run one tile at a time."""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from img2img_shared.errors import Refused, Summary
from img2img_shared.params import Params
from img2img_shared.suggestions import unknown_name
from img2img_shared.upscaler_names import BUILT_IN
from img2img_worker.models.file_cache import FileCache, FileVersion
from img2img_worker.models.pinned_files import NOTHING_PINNED, PinnedFiles
from img2img_worker.models.upscalers.upscaler_files import load
from img2img_worker.models.upscalers.upscaler_folders import UpscalerFile, find_upscalers, upscaler_at
from img2img_worker.pictures.tiles import Tiling, averaged, blended

#: bytes of networks' files that stay loaded between pictures; the one used last stays, whatever its size
REMEMBERED = 1 << 30
#: pixels that an enlarged picture may have
LARGEST = 1 << 28


class Upscalers:
    """Finds upscalers by A1111's names, and runs them; thread-safe.

    Pictures of several threads take turns tile by tile, and what else the device does (the engine's steps)
    goes on in between.

    Args:
        models_dir: see `find_upscalers`; None: there are none.
    """

    def __init__(self, models_dir: Path | None, device: torch.device) -> None:
        self._models_dir = models_dir
        self._device = device
        #: spandrel's ``ImageModelDescriptor``s
        self._networks = FileCache[Any](REMEMBERED)
        self._turn = threading.Lock()

    @property
    def files(self) -> dict[str, UpscalerFile]:
        """The files that are there now, by name."""
        return find_upscalers(self._models_dir)

    def enlarge(
        self,
        name: str,
        image: Image.Image,
        params: Params,
        is_wanted: Callable[[], bool] = lambda: True,
        pinned: PinnedFiles = NOTHING_PINNED,
    ) -> Image.Image:
        """Run `image` through a network once, tile by tile.

        Args:
            name: the upscaler's, as `files` has it or as a job pins it.
            params: the size and the overlap of the tiles.
            is_wanted: asked before each tile.
            pinned: the files that a job means by its names, which win over the folders'.

        Returns:
            the picture, RGB, as many times larger as the network makes it.

        Raises:
            Refused: names "upscaler"; it is not there, cannot be used, or makes the picture too large.
            CancelledError: the picture is not wanted any more.
            MemoryError: the device has no room for a tile.
        """
        file = self._file(name, pinned)
        tiling = _tiling(params, file.kind.options)
        network = self._network(name, file)
        scale = int(network.scale)
        size = image.width * scale, image.height * scale
        if size[0] * size[1] > LARGEST:
            enlarged = Summary(f"{size[0]} × {size[1]} pixels")
            raise Refused("upscaler", enlarged, f"give a picture of at most {LARGEST:,} pixels once enlarged")

        def run(values: NDArray[np.float32]) -> NDArray[np.float32]:
            if not is_wanted():
                raise CancelledError
            return self._run(network, values)

        image = image.convert("RGB")
        if file.kind.averages:
            return _from_bgr(averaged(_to_bgr(image), tiling, run, scale))
        return blended(image, tiling, lambda tile: _from_bgr(run(_to_bgr(tile))), scale)

    def _run(self, network: Any, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """One call of a network: float32 [3, H, W] in, [3, scale · H, scale · W] out."""
        with self._turn, torch.inference_mode():
            tensor = torch.from_numpy(np.ascontiguousarray(values))[None]
            try:
                answer = network(tensor.to(self._device, network.dtype)).float().cpu()[0]
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                raise MemoryError("no memory for an upscaler's tile beside what is in flight") from None
        return np.asarray(answer.numpy(), dtype=np.float32)

    def _file(self, name: str, pinned: PinnedFiles) -> UpscalerFile:
        if (path := pinned.get("upscaler", name)) is not None:
            return upscaler_at(path)
        files = self.files
        if name not in files:
            usable = [each for each, file in files.items() if file.reason is None]
            raise Refused("upscaler", name, unknown_name("upscaler", name, [*BUILT_IN, *usable]))
        return files[name]

    def _network(self, name: str, file: UpscalerFile) -> Any:
        """A file's network, read again if the file has changed."""
        try:
            version = FileVersion.of(file.path)
        except OSError as error:
            raise Refused("upscaler", name, f"the file cannot be read ({error.strerror})") from None
        return self._networks.get(version, lambda: self._read(name, file))

    def _read(self, name: str, file: UpscalerFile) -> Any:
        try:
            network = load(file.path, self._device)
        except ValueError as error:
            raise Refused("upscaler", name, f"it cannot be used ({error}); choose another") from None
        if file.kind.half_precision and network.supports_half and self._device.type == "cuda":
            network.half()
        return network


def _tiling(params: Params, options: str) -> Tiling:
    return Tiling(size=getattr(params, f"{options}_tile"), overlap=getattr(params, f"{options}_tile_overlap"))


def _to_bgr(image: Image.Image) -> NDArray[np.float32]:
    """RGB as float32 [3, H, W] in [0, 1]: blue, green, red, the order in which A1111 gives it to networks."""
    return np.asarray(np.asarray(image)[..., ::-1].transpose(2, 0, 1) / 255, dtype=np.float32)


def _from_bgr(values: NDArray[np.float32]) -> Image.Image:
    """The reverse of `_to_bgr`; values beyond [0, 1] are clipped."""
    pixels = (np.clip(values, 0, 1) * np.float32(255)).round().astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)[..., ::-1]))
