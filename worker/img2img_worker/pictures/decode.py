"""Decodes pictures from bytes that are not trusted."""

import hashlib
import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageFile, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from img2img_shared.errors import Refused, Summary
from img2img_shared.picture_parts import too_many_parts
from img2img_worker.pictures.containers import declared_size, without_metadata
from img2img_worker.pictures.formats import Reader, reader_of

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TILE_WIDTH, _TILE_LENGTH = 322, 323
#: readers that turn pictures themselves, on loading or before
_TURNING = ("TIFF", "HEIF", "JXL")


class Decoder:
    """Decodes pictures for any number of threads, but limits the pixels in memory: small files can be huge.

    Args:
        max_pixels: most pixels of a picture; all threads together hold at most twice as many.
    """

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._room_in_all = self._free = 2 * max_pixels
        self._turn = threading.Lock()
        self._freed = threading.Condition()

    @contextmanager
    def decoded(self, image: bytes, mask: bytes | None) -> Iterator[tuple[Image.Image, Image.Image | None]]:
        """A picture and its mask, see `decode_picture`. Do not keep them, or copies of their size, later.

        Raises:
            Refused: names "image" or "mask".
        """
        files = {"image": image, **({} if mask is None else {"mask": mask})}
        with self.decoded_pictures(files) as pictures:
            yield pictures["image"], pictures.get("mask")

    @contextmanager
    def decoded_pictures(self, files: Mapping[str, bytes]) -> Iterator[dict[str, Image.Image]]:
        """As `decoded`, for any pictures, by the names that refusals use.

        Raises:
            Refused: names the picture; or all together have more pixels than there is ever room for.
        """
        pixels = sum(count_pixels(data, name, self._max_pixels) for name, data in files.items())
        if pixels > self._room_in_all:
            reason = f"give pictures of at most {self._room_in_all:,} pixels together"
            raise Refused(", ".join(files), Summary(f"{pixels:,} pixels"), reason)
        with self._room(pixels):
            yield {name: decode_picture(data, name, self._max_pixels) for name, data in files.items()}

    @contextmanager
    def _room(self, pixels: int) -> Iterator[None]:
        with self._turn, self._freed:  # in turn, or small pictures could keep a large one waiting forever
            self._freed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._freed:
                self._free += pixels
                self._freed.notify()


def decode_picture(data: bytes, field: str, max_pixels: int) -> Image.Image:
    """The picture in `data`, upright, as 8-bit L, RGB or RGBA.

    As in A1111, colour profiles are ignored, and so is the alpha of grey pictures; a colour that is declared
    transparent stays declared so (``info["transparency"]``), which matters in `compose`. 16-bit grey is
    divided by 257. Broken metadata is ignored.

    Args:
        field: the name that a refusal uses: "image" or "mask".
        max_pixels: larger pictures are refused before any pixel is decoded.

    Raises:
        Refused: it is of another format, too large, truncated, damaged, or has pixels without a defined
            range (32-bit integers, floats).
    """
    count_pixels(data, field, max_pixels)
    reader = reader_of(data, field)
    try:
        picture = _open(data, reader)
        _check_size(picture.size, field, max_pixels)  # its header may have said something else
        picture.load()
        plain = _plain(picture, field)
    except (Refused, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise nearly anything on damaged data
        raise _damaged(data, field) from error
    upright = _UPRIGHT.get(_orientation(data, reader, picture))
    return plain if upright is None else plain.transpose(upright)


def count_pixels(data: bytes, field: str, max_pixels: int) -> int:
    """The number of pixels that decoding takes, by the file's header.

    Raises:
        Refused: it is of another format, damaged, in too many parts, or has more than `max_pixels`.
    """
    reader = reader_of(data, field)
    if parts := too_many_parts(data):
        reason = "it would take minutes or gigabytes to read; save it again"
        raise Refused(field, Summary(f"a picture of {parts}"), reason)
    try:
        size = declared_size(data) or _largest_sides(_open(data, reader))
    except MemoryError:
        raise
    except Exception as error:  # as in `decode_picture`
        raise _damaged(data, field) from error
    return _check_size(size, field, max_pixels)


def hash_of_pixels(data: bytes) -> str:
    """MD5 of a sound picture's pixels as its file has them, upright: A1111's "Init image hash"."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    return hashlib.md5(picture.tobytes(), usedforsecurity=False).hexdigest()


def flatten(image: Image.Image, background: str) -> Image.Image:
    """RGB, with `background` ("#rrggbb") behind what is transparent."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return canvas


def _open(data: bytes, reader: Reader) -> ImageFile.ImageFile:
    """The opened file, no pixel decoded yet; most of its metadata is left out."""
    return reader(io.BytesIO(without_metadata(data)))


def _check_size(size: tuple[int, int], field: str, max_pixels: int) -> int:
    width, height = size
    if not 0 < width * height <= max_pixels:
        raise Refused(
            field, Summary(f"{width} × {height} pixels"), f"give a picture of at most {max_pixels:,} pixels"
        )
    return width * height


def _largest_sides(picture: ImageFile.ImageFile) -> tuple[int, int]:
    width, height = picture.size
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        # one tile is decoded whole, however little of it the picture shows
        width = max(width, picture.tag_v2.get(_TILE_WIDTH, 0))
        height = max(height, picture.tag_v2.get(_TILE_LENGTH, 0))
    return width, height


def _orientation(data: bytes, reader: Reader, picture: ImageFile.ImageFile) -> int:
    """EXIF orientation, 1 to 8; 1, too, if the reader has applied it already."""
    if picture.format in _TURNING:
        return 1
    try:
        if isinstance(picture, PngImagePlugin.PngImageFile | JpegImagePlugin.JpegImageFile):
            picture = reader(io.BytesIO(data))  # once more, with its metadata
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken block says nothing about orientation; the pixels are sound
        return 1


def _plain(picture: Image.Image, field: str) -> Image.Image:
    """The pixels as 8-bit L, RGB or RGBA, independent of the file."""
    mode = picture.mode
    if mode.startswith("I;16"):
        grey = np.asarray(picture).astype(np.uint32)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    if mode == "RGBA" or (mode == "P" and isinstance(picture.info.get("transparency"), bytes)):
        return picture.convert("RGBA")
    if mode in ("1", "L", "LA"):
        return picture.convert("L")
    if mode in ("P", "PA", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"):
        return picture.convert("RGB")
    raise Refused(
        field,
        Summary(f"a picture of mode {mode}"),
        "give a picture of 8 or 16 bits a channel in grey, palette, RGB or CMYK",
    )


def _damaged(data: bytes, field: str) -> Refused:
    return Refused(
        field,
        Summary(f"a file of {len(data):,} bytes"),
        "it ends too early, or is damaged; give a complete picture",
    )
