"""Thumbnails of pictures in the store: made when they are asked for, and cached in memory for a while."""

import io
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from anyio import CapacityLimiter, to_thread
from PIL import Image, ImageOps

from img2img_gateway.memory_budget import MemoryBudget
from img2img_shared.errors import FarmError
from img2img_shared.picture_parts import too_many_parts
from img2img_shared.store import Store

#: bytes of thumbnails that are kept
KEPT = 64 * 1024 * 1024
#: pixels of a picture, decoded as a whole; a JPEG is decoded to a fraction of its size
LARGEST = 40_000_000
#: pictures that are decoded at a time
THREADS = 2
#: what is read; a file may have any name
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")
_QUALITY = 80


class Thumbnails:
    """The thumbnails of one store. Create it in the event loop whose requests share it."""

    def __init__(self, store: Store, memory: MemoryBudget) -> None:
        self._store = store
        self._memory = memory
        self._limiter = CapacityLimiter(THREADS)
        #: by the picture's key and the size; the latest used come last. None: no thumbnail can be made of it
        self._kept: OrderedDict[tuple[str, int], bytes | None] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    async def of(self, key: str, size: int) -> bytes | None:
        """A WebP of at most `size` pixels each way; None if the picture has a format that is not read here.

        Raises:
            StoreError: the store does not have it (any more), or does not answer.
        """
        name = (key, size)
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        made = await to_thread.run_sync(self._make, key, size, limiter=self._limiter)
        self._keep(name, made)
        return made

    def _make(self, key: str, size: int) -> bytes | None:
        data = self._store.get(key)
        try:
            with _open(data, size) as image, self._memory.held_in_thread(_cost(image, data)):
                return _encode(image, size)
        except (FarmError, MemoryError):
            raise
        except Exception:  # Pillow's readers raise nearly anything on damaged data
            return None  # it is no picture, or a broken one: what the job says of it tells more

    def _keep(self, name: tuple[str, int], made: bytes | None) -> None:
        with self._lock:
            if name in self._kept:
                return
            self._kept[name] = made
            self._bytes += _size(made)
            while self._bytes > KEPT:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= _size(oldest)


def _size(made: bytes | None) -> int:
    """The bytes that a cached thumbnail takes, with its name."""
    return len(made or b"") + 500


@contextmanager
def _open(data: bytes, size: int) -> Iterator[Image.Image]:
    if too_many_parts(data):
        raise ValueError("it takes too long to read")
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        image.draft("RGB", (size, size))
        if image.width * image.height > LARGEST:
            raise ValueError("too large")
        yield image


def _cost(image: Image.Image, data: bytes) -> int:
    return len(data) + 8 * image.width * image.height


def _encode(image: Image.Image, size: int) -> bytes:
    if image.mode.startswith(("I", "F")):  # 16 bits a pixel; WebP has 8
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    image.thumbnail((size, size), reducing_gap=2.0)
    turned = ImageOps.exif_transpose(image)
    has_alpha = "A" in turned.getbands() or "transparency" in turned.info
    data = io.BytesIO()
    turned.convert("RGBA" if has_alpha else "RGB").save(data, "WEBP", quality=_QUALITY, method=2)
    return data.getvalue()
