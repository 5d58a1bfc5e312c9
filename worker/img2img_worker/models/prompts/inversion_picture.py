"""Reads textual inversions from pictures, where A1111 puts them for sharing: a text chunk or the pixels."""

import base64
import binascii
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

Pixels = NDArray[np.uint8]

#: endings of the pictures in which A1111 looks for them
ENDINGS = (".png", ".webp", ".jxl", ".avif")
#: before the ending of a picture that is only the preview of a file beside it
_PREVIEW = ".preview"
#: text chunk of a PNG that holds base64 of JSON
_CHUNK = "sd-ti-embedding"
#: the key of a tensor's numbers in the JSON
_TENSOR = "TORCHTENSOR"
#: most pixels of a picture, and most bytes of its content
_LARGEST, _LONGEST = 64_000_000, 64_000_000


def read_picture(path: Path) -> dict[str, Any] | None:
    """The content of a picture, as of a .pt file; None: it has none.

    Raises:
        ValueError: it cannot be read.
    """
    if path.stem.lower().endswith(_PREVIEW):
        return None
    try:
        with Image.open(path) as image:
            if image.width * image.height > _LARGEST:
                return None
            text = image.text.get(_CHUNK) if isinstance(image, PngImagePlugin.PngImageFile) else None
            if text is not None:
                return _read_json(base64.b64decode(text))
            pixels: Pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, binascii.Error) as error:
        raise ValueError(f"not readable ({(str(error).splitlines() or [''])[0]})") from None
    packed = _packed(pixels)
    try:
        return None if packed is None else _read_json(zlib.decompressobj().decompress(packed, _LONGEST))
    except (zlib.error, ValueError):
        return None  # a plain picture, in which two columns happen to be black


def _read_json(data: bytes) -> dict[str, Any]:
    try:
        read = json.loads(data, object_hook=_tensor)
    except (RecursionError, TypeError, OverflowError) as error:
        raise ValueError(f"not readable ({error})") from None
    if not isinstance(read, dict):
        raise ValueError("not one textual inversion")
    return read


def _tensor(read: dict[str, Any]) -> Any:
    return torch.tensor(read[_TENSOR], dtype=torch.float32) if _TENSOR in read else read


def _packed(pixels: Pixels) -> bytes | None:
    """The bytes in the low four bits of the pixels beside the picture proper; None: there are none.

    Black columns separate them from it. On the left are the low halves of the bytes, on the right the high.
    """
    halves: Pixels = _framed(pixels) & np.uint8(0x0F)
    (black,) = np.where(halves.sum((0, 2)) == 0)
    if len(black) < 2:
        return None
    low, high = halves[:, : black.min()], halves[:, black.max() + 1 :]
    if low.shape != high.shape or low.size == 0:
        return None
    return bytes((_clear(high) << 4 | _clear(low)).astype(np.uint8).tobytes())


def _framed(pixels: Pixels) -> Pixels:
    """The pixels without the rows and columns at the edges in which every pixel has a channel of 0."""
    mask = np.all(pixels > 0, axis=2)
    (columns,), (rows,) = np.where(np.any(mask, axis=0)), np.where(np.any(mask, axis=1))
    if not len(columns):
        return pixels[:0, :0]
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _clear(block: Pixels) -> Pixels:
    """The block without the pattern that A1111 lays over it: low bits of a linear congruential generator."""
    values = np.empty(block.size, np.uint8)
    seed = 0
    for place in range(block.size):
        seed = (1664525 * seed + 1013904223) % 2**32
        values[place] = seed % 255 & 0x0F
    cleared: Pixels = block ^ values.reshape(block.shape)
    return cleared
