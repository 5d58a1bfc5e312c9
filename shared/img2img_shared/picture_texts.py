"""The texts in a picture's file, read without decoding any pixel."""

import struct
import zlib
from collections.abc import Iterator

from img2img_shared.novelai import novelai_infotext

_PNG, _GIF = b"\x89PNG\r\n\x1a\n", b"GIF8"
#: chunks of a PNG that hold texts
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"eXIf")
#: of a WebP's flags, that it has EXIF
_HAS_EXIF = 0x08
#: bytes of the texts of a PNG that are read, unpacked
_TEXTS = 1024 * 1024
#: what each of them counts for beside its characters
_KEYWORD = 100
#: parts of a file that are looked at: many million empty ones would take seconds
_CHUNKS = 100_000
#: the label of a GIF's extension that is a comment
_GIF_COMMENT = b"\xfe"
#: EXIF: the tag that points to its own directory, and that of the comment in there
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286


def read_texts(data: bytes) -> dict[str, str]:
    """The texts in a picture's file: a PNG's by their keywords, a JPEG's or a GIF's as "comment".

    As in A1111, "parameters" is EXIF's comment, or the file's if it has no EXIF; what NovelAI wrote is there
    as "parameters" too.
    A PNG's texts are limited in their total size: from the first one beyond that on, they are left out.
    """
    novelai = None
    if data.startswith(_PNG):
        found = dict(_png_texts(data))
        exif = next((chunk for kind, chunk in _chunks(data) if kind == b"eXIf"), None)
        size = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        novelai = novelai_infotext(found, *size)
    else:
        exif, comment = (None, _gif_comment(data)) if data[:4] == _GIF else _exif_and_comment(data)
        found = {"comment": comment.decode("utf-8", "ignore")} if comment else {}
    if text := novelai or (found.get("comment") if exif is None else _user_comment(exif)):
        found["parameters"] = text
    return found


def without_texts(data: bytes) -> bytes:
    """A picture's file without the texts that `read_texts` finds; its pixels' bytes are the same."""
    if data.startswith(_PNG):
        kept = ((kind, chunk) for kind, chunk in _chunks(data) if kind not in _PNG_TEXTS)
        return _PNG + b"".join(
            struct.pack(">I", len(chunk)) + kind + chunk + struct.pack(">I", zlib.crc32(kind + chunk))
            for kind, chunk in kept
        )
    return _webp_without_exif(data) if _is_webp(data) else _jpeg_without_exif(data)


def _png_texts(data: bytes) -> Iterator[tuple[str, str]]:
    left = _TEXTS
    for kind, chunk in _chunks(data):
        for name, text in _png_text(kind, chunk, left):
            left -= len(name) + len(text) + _KEYWORD
            if left < 0:
                return
            yield name, text


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_PNG)
    for _ in range(_CHUNKS):
        if at + 12 > len(data):
            return
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def _png_text(kind: bytes, chunk: bytes, most: int) -> Iterator[tuple[str, str]]:
    name, _, rest = chunk.partition(b"\0")
    try:
        if kind == b"tEXt":
            yield name.decode("latin-1"), rest.decode("latin-1")
        elif kind == b"zTXt":
            yield name.decode("latin-1"), _unpack(rest[1:], most).decode("latin-1")
        elif kind == b"iTXt":
            packed, (_, _, text) = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
            yield (
                name.decode("latin-1"),
                (_unpack(text, most) if packed else text).decode("utf-8", "replace"),
            )
    except (ValueError, zlib.error):
        return  # a broken chunk carries no text


def _unpack(data: bytes, most: int) -> bytes:
    return zlib.decompressobj().decompress(data, most + 1)


def _exif_and_comment(data: bytes) -> tuple[bytes | None, bytes | None]:
    """The EXIF block of a JPEG or a WebP, and a JPEG's comment."""
    exif = comment = None
    if _is_webp(data):
        at = 12
        for _ in range(_CHUNKS):
            length = int.from_bytes(data[at + 4 : at + 8], "little")
            if data[at : at + 4] == b"EXIF":
                return data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0"), None
            at += 8 + length + length % 2
    at = 2
    for _ in range(_CHUNKS):
        if data[:2] != b"\xff\xd8" or data[at : at + 1] != b"\xff" or at + 4 > len(data):
            break
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        block = data[at + 4 : at + 2 + length]
        if data[at + 1] == 0xE1 and block.startswith(b"Exif\0\0"):
            exif = exif or block[6:]
        elif data[at + 1] == 0xFE:
            comment = block
        at += 2 + length
    return exif, comment


def _gif_comment(data: bytes) -> bytes:
    """What a GIF's comments before its first picture say, a line each (GIF89a, 24)."""
    flags = data[10] if len(data) > 10 else 0
    at = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    comments: list[bytes] = []
    label = b""
    for _ in range(_CHUNKS):
        if label:
            size = int.from_bytes(data[at : at + 1], "big")
            if label == _GIF_COMMENT:
                comments[-1] += data[at + 1 : at + 1 + size]
            label = label if size else b""
            at += 1 + size
        elif data[at : at + 1] == b"!":
            label = data[at + 1 : at + 2]
            comments += [b""] * (label == _GIF_COMMENT)
            at += 2
        else:
            break
    return b"\n".join(comments)[:_TEXTS]


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _webp_without_exif(data: bytes) -> bytes:
    kept, at = bytearray(data[:12]), 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        block = bytearray(data[at : at + 8 + length + length % 2])
        if block[:4] == b"VP8X":
            block[8] &= ~_HAS_EXIF
        if block[:4] != b"EXIF":
            kept += block
        at += len(block)
    kept[4:8] = struct.pack("<I", len(kept) - 8)
    return bytes(kept)


def _jpeg_without_exif(data: bytes) -> bytes:
    kept, at = bytearray(data[:2]), 2
    while data[at : at + 1] == b"\xff" and data[at + 1] != 0xDA:  # up to the pixels
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if not (data[at + 1] == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0"):
            kept += data[at:end]
        at = end
    return bytes(kept + data[at:])


def _user_comment(exif: bytes) -> str | None:
    """EXIF's UserComment (EXIF 2.3, 4.6.5): eight bytes name its encoding."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        first = int(struct.unpack_from(order + "I", exif, 4)[0])
        _, own = _entry(exif, order, first, _EXIF_IFD)
        length, start = _entry(exif, order, own, _USER_COMMENT)
    except (struct.error, LookupError):
        return None
    value = exif[start : start + length]
    if value.startswith(b"UNICODE\0"):
        text = value[8:]
        # big-endian as A1111 writes it, unless its zero bytes lie where little-endian has them
        little = text[1::2].count(0) > text[::2].count(0)
        return text.decode("utf-16-le" if little else "utf-16-be", "replace")
    return value.removeprefix(b"ASCII\0\0\0").decode("utf-8", "replace").strip("\0 ") or None


def _entry(exif: bytes, order: str, directory: int, wanted: int) -> tuple[int, int]:
    """(number of values, their offset or, for a pointer, its value) of a tag in a directory."""
    (count,) = struct.unpack_from(order + "H", exif, directory)
    for i in range(count):
        tag, _, length, value = struct.unpack_from(order + "HHII", exif, directory + 2 + 12 * i)
        if tag == wanted:
            return length, value
    raise LookupError(wanted)
