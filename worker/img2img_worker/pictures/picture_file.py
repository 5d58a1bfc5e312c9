"""Encodes pictures as files that carry an infotext."""

import io
from collections.abc import Mapping

from PIL import ExifTags, Image, PngImagePlugin

#: the first bytes of EXIF's UserComment (EXIF 2.3, 4.6.5)
_UNICODE = b"UNICODE\0"
#: bytes of UTF-16 text that fit into a JPEG's EXIF segment (64 KiB) beside its headers
_EXIF_TEXT = 65_000


def encode_picture(
    image: Image.Image,
    output_format: str,
    infotext: str = "",
    quality: int | None = None,
    *,
    texts: Mapping[str, str] | None = None,
) -> bytes:
    """Encode `image` (RGB or RGBA) as a file that carries `infotext`, if there is any.

    PNG: in the `parameters` text chunk. JPEG (without transparency) and WebP: in EXIF's UserComment. A JPEG
    holds 64 KiB of it, so a longer text's prompts are cut, or else the line of pairs if not even that fits.

    Args:
        output_format: "png", "jpeg" or "webp".
        quality: 1 to 100, for a JPEG (None: 95) or a WebP (None: lossless).
        texts: further texts by their keywords, for a PNG only.
    """
    file = io.BytesIO()
    image = image.copy()  # saving one object from two threads at once would mix their options
    if output_format == "png":
        chunks = PngImagePlugin.PngInfo()
        if infotext:
            chunks.add_text("parameters", infotext)
        for keyword, text in (texts or {}).items():
            chunks.add_text(keyword, text)
        # takes a third of the default's time, for a few per cent more bytes
        image.save(file, "PNG", pnginfo=chunks, compress_level=1, compress_type=2)
    elif output_format == "jpeg":
        comment = _user_comment(_shorten(infotext))
        image.convert("RGB").save(file, "JPEG", quality=quality or 95, exif=comment)
    elif quality is None:
        image.save(file, "WEBP", lossless=True, method=0, exif=_user_comment(infotext))
    else:
        image.save(file, "WEBP", quality=quality, exif=_user_comment(infotext))
    return file.getvalue()


def _user_comment(text: str) -> Image.Exif:
    exif = Image.Exif()
    if not text:
        return exif
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _UNICODE + _utf16(text)
    return exif


def _shorten(text: str) -> str:
    """`text` cut to fit into a JPEG: its prompts, or the line of pairs if not even that fits."""
    if len(_utf16(text)) <= _EXIF_TEXT:
        return text
    prompts, _, line = text.rpartition("\n")
    end = f"…\n{line}"
    if len(_utf16(end)) > _EXIF_TEXT:
        prompts, end = line, "…"
    return _utf16(prompts)[: _EXIF_TEXT - len(_utf16(end))].decode("utf-16-be", "ignore") + end


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-be", "replace")
