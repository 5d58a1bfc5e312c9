"""A cache of control pictures: a batch uses one for all of its images, a film often one for many."""

import threading
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b

from img2img_shared.control import ControlUnit
from img2img_shared.lru_cache import LruCache
from img2img_shared.params import Params
from img2img_worker.pictures.control.prepare_control import ControlPicture

#: bytes of them, at most
REMEMBERED = 256 << 20
#: what of a unit, and what of a render, has a part in its control picture
_OF_UNIT = {
    "module",
    "resize_mode",
    "processor_res",
    "threshold_a",
    "threshold_b",
    "pixel_perfect",
    "inpaint_crop_input_image",
}
_OF_RENDER = {
    "width",
    "height",
    "resize_mode",
    "mask_blur_x",
    "mask_blur_y",
    "mask_round",
    "inpainting_mask_invert",
    "inpaint_full_res",
    "inpaint_full_res_padding",
}

Passes = tuple[ControlPicture, ...]


class ControlCache:
    """The control pictures of a worker; the least recently used are dropped. Thread-safe."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._found: LruCache[object, Passes] = LruCache(_bytes)
        self._turn = threading.Lock()

    def get(self, key: object, make: Callable[[], Passes]) -> Passes:
        """The control pictures under `key`, or new ones; two calls at the same time may both make them."""
        with self._turn:
            found = self._found.get(key)
        if found is not None:
            return found
        made = make()
        with self._turn:
            self._found.put(key, made)
            self._found.trim(self._most)
        return made


def key_of(
    unit: ControlUnit,
    params: Params,
    sizes: Sequence[tuple[int, int]],
    files: Mapping[str, bytes],
    seed: int,
) -> object:
    """A key that is equal if the control pictures are.

    Args:
        files: the pictures that they are made from, by their role for the unit.
        seed: the seed for preprocessors with randomness.
    """
    digests = tuple((name, blake2b(data, digest_size=16).digest()) for name, data in files.items())
    settings = (unit.model_dump_json(include=_OF_UNIT), params.model_dump_json(include=_OF_RENDER))
    return (digests, settings, tuple(sizes), seed if unit.preprocessor.name == "shuffle" else 0)


def _bytes(passes: Passes) -> int:
    return sum(each.n_bytes for each in passes)
