"""Finds Pillow's reader for a file by its first bytes.

`Image.open` is not used: it checks sizes against a global of Pillow's, and would pass a JPEG on to the reader
of multi-picture files.
"""

from importlib import import_module

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from img2img_shared.errors import Refused, Summary

#: the formats that are always read; of a GIF the first frame, of a TIFF the first page
FORMATS = "PNG, JPEG, WebP, TIFF, BMP, AVIF, GIF"
#: the formats that need a plug-in, by name: its module and its reader
_OPTIONAL = {
    "HEIC": ("pillow_heif", "HeifImageFile"),
    "JPEG XL": ("pillow_jxl.JpegXLImagePlugin", "JXLImageFile"),
}
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_AVIF_BRANDS = (b"avif", b"avis")

Reader = type[ImageFile.ImageFile]


def reader_of(data: bytes, field: str) -> Reader:
    """The class that opens `data`.

    Raises:
        Refused: names `field`; the file is in none of the `FORMATS`, nor in one that plug-ins read.
    """
    found = _reader(data)
    if isinstance(found, str):
        module, name = _OPTIONAL[found]
        try:
            reader: Reader = getattr(import_module(module), name)
        except ImportError:
            reason = (
                f"give {FORMATS}; the worker has no plug-in for {found} (pip install 'img2img-farm[photos]')"
            )
            raise Refused(field, Summary(f"a {found} picture"), reason) from None
        return reader
    if found is None:
        raise Refused(field, Summary(f"a file of {len(data):,} bytes"), f"give a picture: {FORMATS}")
    return found


def _reader(data: bytes) -> Reader | str | None:
    """Pillow's own reader, or the name of an optional format; None: the format is unknown."""
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
    if data.startswith(_JXL):
        return "JPEG XL"
    if data[4:8] == b"ftyp":
        return _of_container(data[8 : int.from_bytes(data[:4], "big")])
    return BmpImagePlugin.BmpImageFile if data.startswith(b"BM") else None


def _of_container(brands: bytes) -> Reader | str | None:
    """As `_reader`, by the brands of a container, the first of which may be a general one."""
    named = [brands[i : i + 4] for i in range(0, min(len(brands), 256), 4)]
    if any(brand in _AVIF_BRANDS for brand in named):
        return AvifImagePlugin.AvifImageFile
    return "HEIC" if any(brand in _HEIC_BRANDS for brand in named) else None
