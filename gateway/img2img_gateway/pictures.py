"""Pictures in requests: as base64, or by the key of one that was uploaded."""

import base64
import binascii
import re

from img2img_shared.errors import Refused, Summary

_REFERENCE = re.compile(r"inputs/[0-9a-f]{64}")
#: bytes that are no picture that is known here
UNKNOWN = "application/octet-stream"

#: what browsers show, by how it begins
_FIRST_BYTES = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/avif": re.compile(rb"....ftypavi[fs]", re.DOTALL),
    "image/bmp": re.compile(rb"BM"),
}

#: and pictures of the other kinds that workers read, or may: TIFF, JPEG XL, HEIC
_OTHER_FIRST_BYTES = re.compile(
    rb"II[*+]\0|MM\0[*+]|\xff\x0a|\0\0\0\x0cJXL |....ftyp(?:mif1|msf1|hei[cxms]|hev[cx])", re.DOTALL
)

_DATA_URL = re.compile(r"data:[^,]{0,100},")


def is_reference(text: str) -> bool:
    """Whether `text` is the key of an uploaded picture. By its length, it cannot be base64."""
    return _REFERENCE.fullmatch(text) is not None


def decode_base64(text: str, field: str, largest: int) -> bytes:
    """The bytes of a picture in base64, bare or as a data URL.

    Raises:
        Refused: names `field`; it is not base64, or is larger than `largest` bytes.
    """
    if text.startswith(("http://", "https://")):
        raise Refused(field, text, "send the picture itself as base64; URLs are not fetched")
    if len(text) > largest * 4 // 3 + 200:
        raise Refused(
            field, Summary(f"{len(text):,} characters"), f"send a picture of at most {largest:,} bytes"
        )
    start = _DATA_URL.match(text)
    bare = text[start.end() :] if start else text
    try:
        data = base64.b64decode("".join(bare.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refused(
            field, text, "send a picture as base64, with or without data:...;base64, before it"
        ) from None
    if not data:
        raise Refused(field, text, "send a picture as base64; this one has no data")
    return data


def decode_picture(text: str, field: str, largest: int) -> bytes:
    """Like `decode_base64`, for data that begins as a picture does; the rest of it is not checked.

    Raises:
        Refused: like `decode_base64`; or it is not a picture.
    """
    data = decode_base64(text, field, largest)
    if media_type(data) == UNKNOWN and not _OTHER_FIRST_BYTES.match(data):
        raise Refused(field, data, "it is no picture; send a PNG, JPEG or WebP as base64")
    return data


def media_type(data: bytes) -> str:
    """The media type of an encoded picture, by its first bytes; never one that a browser would run."""
    return next((kind for kind, first in _FIRST_BYTES.items() if first.match(data)), UNKNOWN)
