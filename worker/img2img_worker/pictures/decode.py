"""From the bytes of a picture to pixels, without trusting the bytes."""

import io

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from img2img_shared.errors import Refused

#: what is read; a GIF's first frame, a TIFF's first page
FORMATS = "PNG, JPEG, WebP, TIFF, BMP, AVIF, GIF"

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
_AVIF_BRANDS = (b"avif", b"avis", b"mif1", b"msf1")


def decode_picture(data: bytes, field: str, max_pixels: int) -> Image.Image:
    """The picture in `data`, upright, as 8-bit L, LA, RGB or RGBA.

    Colour profiles are ignored, as A1111 does. 16-bit grey is divided by 257; transparency that a palette
    or a colour key holds becomes RGBA. A broken EXIF block counts as none.

    Args:
        field: how a refusal calls it: "image" or "mask".
        max_pixels: refused above this, before any pixel is decoded.

    Raises:
        Refused: not one of `FORMATS`, too large, truncated, damaged, or of a kind of pixel without a
            defined range (32-bit integers, floats).
    """
    picture = open_picture(data, field)
    try:
        _check_size(picture, field, max_pixels)
        picture.load()
        orientation = _orientation(picture)
        plain = _plain(picture, field)
    except (Refused, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise nearly anything on damaged data
        raise _damaged(data, field, error) from None
    upright = _UPRIGHT.get(orientation)
    return plain if upright is None else plain.transpose(upright)


def open_picture(data: bytes, field: str) -> ImageFile.ImageFile:
    """The file's headers and metadata, no pixel decoded.

    Raises:
        Refused: not one of `FORMATS`, or damaged.
    """
    reader = _reader(data)
    if reader is None:
        raise Refused(field, data[:24], f"a picture: {FORMATS}")
    try:
        return reader(io.BytesIO(data))
    except MemoryError:
        raise
    except Exception as error:  # as in `decode_picture`
        raise _damaged(data, field, error) from None


def flatten(image: Image.Image, background: str) -> Image.Image:
    """RGB without transparency: what is see-through shows `background` ("#rrggbb")."""
    if image.mode not in ("RGBA", "LA"):
        return image.convert("RGB")
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return canvas


def _reader(data: bytes) -> type[ImageFile.ImageFile] | None:
    """The plugin for `data`, by signature.

    `Image.open` is not used: it checks sizes against a global of Pillow's and warns or raises by it, and it
    would hand a JPEG on to the reader of multi-picture files.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImagePlugin.PngImageFile
    if data.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return TiffImagePlugin.TiffImageFile
    if data.startswith((b"GIF87a", b"GIF89a")):
        return GifImagePlugin.GifImageFile
    if data[4:8] == b"ftyp" and data[8:12] in _AVIF_BRANDS:
        return AvifImagePlugin.AvifImageFile
    if data.startswith(b"BM"):
        return BmpImagePlugin.BmpImageFile
    return None


def _check_size(picture: ImageFile.ImageFile, field: str, max_pixels: int) -> None:
    width, height = picture.size
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        # one tile is decoded whole, however little of it the picture shows
        width = max(width, picture.tag_v2.get(_TILE_WIDTH, 0))
        height = max(height, picture.tag_v2.get(_TILE_LENGTH, 0))
    if not 0 < width * height <= max_pixels:
        raise Refused(field, f"{width} × {height} pixels", f"at most {max_pixels:,} pixels")


def _orientation(picture: ImageFile.ImageFile) -> int:
    """EXIF orientation, 1 to 8. (TIFF's is applied by Pillow on loading, and gone by now.)"""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken block says nothing about orientation; the pixels are sound
        return 1


def _plain(picture: Image.Image, field: str) -> Image.Image:
    """The pixels as 8-bit L, LA, RGB or RGBA, free of the file."""
    mode = picture.mode
    if mode.startswith("I;16"):
        grey = np.asarray(picture).astype(np.uint32)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    if mode in ("LA", "La"):
        return picture.convert("LA")
    if mode in ("RGBA", "RGBa", "PA") or picture.has_transparency_data:
        return picture.convert("RGBA")
    if mode in ("1", "L"):
        return picture.convert("L")
    if mode in ("P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"):
        return picture.convert("RGB")
    raise Refused(field, f"pixels of mode {mode!r}", "8 or 16 bits a channel; grey, palette, RGB or CMYK")


def _damaged(data: bytes, field: str, error: Exception) -> Refused:
    reason = (str(error) or type(error).__name__).splitlines()[0][:120]
    return Refused(
        field, f"a file of {len(data):,} bytes", f"a whole picture; this one cannot be read: {reason}"
    )
