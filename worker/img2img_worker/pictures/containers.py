"""Checks and strips pictures' files before Pillow reads them."""

import re
import struct

from img2img_shared.picture_parts import TIFF, tiff_directory

_PNG = b"\x89PNG\r\n\x1a\n"
#: the PNG chunks that its pixels need
_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
#: bytes of a transparent colour (for a palette: most bytes of its alphas), by IHDR's kind of pixel
_GREY, _RGB, _PALETTE = 0, 2, 3
_TRANSPARENT = {_GREY: 2, _RGB: 6, _PALETTE: 256}
#: a JPEG's marker, before which there may be any number of fill bytes
_MARKER = re.compile(rb"\xff++([^\xff])")
#: a JPEG's start of scan; the segments that affect its colours, JFIF's and Adobe's; least bytes of these
_SCAN, _COLOURS, _WHOLE = 0xDA, (0xE0, 0xEE), 16
#: an AVIF's entry for its EXIF; its orientation is elsewhere
_AVIF_EXIF = re.compile(rb"(infe\x02.{7})Exif", re.DOTALL)
#: the tags that a TIFF's pixels need
_TIFF_TAGS = frozenset(
    {254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325}
    | {332, 334, 338, 339, 347, 513, 514, 519, 520, 521, 529, 530, 531, 532}
)
#: numbers of bits of a JPEG XL's side, and ratios of its width to its height
_JXL_BITS = (9, 13, 18, 30)
_JXL_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
#: a GIF's extensions, and the one that pixels need, with the transparent colour
_EXTENSION, _GRAPHIC_CONTROL = 0x21, 0xF9
_METADATA = (*range(0xE0, 0xF0), 0xFE)


def without_metadata(data: bytes) -> bytes:
    """A picture's file with only what its pixels need, if its format is known.

    What is left out (texts, profiles, EXIF) can only do harm: Pillow refuses a whole file for one long or
    broken text.
    """
    if data.startswith(_PNG):
        return _bare_png(data)
    if data.startswith(b"\xff\xd8"):
        return _bare_jpeg(data)
    if data.startswith(b"GIF8"):
        return _bare_gif(data)
    if data[:4] in TIFF:
        return _bare_tiff(data)
    # under another name, an AVIF's EXIF is not found
    return _AVIF_EXIF.sub(rb"\1none", data) if data[4:8] == b"ftyp" else data


def declared_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) by the header of a WebP or a JPEG XL; None: it is another format.

    The readers of these allocate memory for all pixels, or even decode them, when they open a file.
    """
    if data.startswith(b"RIFF"):
        return _webp_size(data)
    if data.startswith(b"\xff\x0a") or data[4:8] == b"JXL ":
        return _jxl_size(data if data.startswith(b"\xff") else _jxl_stream(data))
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind, body = data[12:16], data[20:30]
    if data[8:12] != b"WEBP" or len(body) < 10:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", body[6:10])
    return (width & 0x3FFF, height & 0x3FFF) if kind == b"VP8 " else None


def _bare_png(data: bytes) -> bytes:
    kept = [_PNG]
    at = len(_PNG)
    while at + 8 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind in _PIXELS or (kind == b"tRNS" and _is_sound(data[at + 8 : end - 4], data[25])):
            kept.append(data[at:end])
        if kind == b"IEND":
            break
        at = end
    return b"".join(kept)


def _is_sound(transparency: bytes, kind: int) -> bool:
    """Whether a PNG's transparency has the length that its `kind` of pixel needs, and values of 8 bits."""
    length = _TRANSPARENT.get(kind, 0)
    if kind == _PALETTE:
        return len(transparency) <= length
    return len(transparency) == length and not any(transparency[::2])


def _bare_jpeg(data: bytes) -> bytes:
    kept = [data[:2]]
    at = 2
    while found := _MARKER.match(data, at):
        at, marker, start = found.end() - 2, found[1][0], found.end()
        if marker == _SCAN or start + 2 > len(data):
            break
        end = start + int.from_bytes(data[start : start + 2], "big")
        if marker not in _METADATA or (marker in _COLOURS and end - at >= _WHOLE):
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at:]])


def _bare_gif(data: bytes) -> bytes:
    """A GIF without the extensions before its first frame."""
    if len(data) < 13:
        return data
    at = 13 + (3 << 1 + (data[10] & 7) if data[10] & 0x80 else 0)
    kept = [data[:at]]
    while data[at : at + 1] == bytes([_EXTENSION]) and at + 2 < len(data):
        end = at + 2
        while end < len(data) and data[end]:
            end += 1 + data[end]
        if data[at + 1] == _GRAPHIC_CONTROL:
            kept.append(data[at : end + 1])
        at = end + 1
    return b"".join([*kept, data[at:]])


def _bare_tiff(data: bytes) -> bytes:
    """A TIFF with only the first page's directory, and only the tags it needs."""
    order, offset, count, _ = TIFF[data[:4]]
    start, tags = tiff_directory(data)
    if not tags:
        return data
    kept = [tag for tag in tags if int.from_bytes(tag[:2], "little" if order == "<" else "big") in _TIFF_TAGS]
    directory = struct.pack(order + count, len(kept)) + b"".join(kept) + bytes(struct.calcsize(offset))
    return data[:start] + directory + data[start + len(directory) :]


def _jxl_stream(data: bytes) -> bytes:
    """The beginning of the codestream in a JPEG XL's container; empty: it is not found."""
    at = 0
    while at + 16 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        head = 16 if length == 1 else 8
        if kind in (b"jxlc", b"jxlp"):
            start = at + head + 4 * (kind == b"jxlp")  # a part has its number first
            return data[start : start + 32]
        length = int.from_bytes(data[at + 8 : at + 16], "big") if length == 1 else length
        if length < head:
            break
        at += length
    return b""


def _jxl_size(stream: bytes) -> tuple[int, int]:
    """(width, height) in the SizeHeader (ISO/IEC 18181-1); (0, 0): the stream is too short."""
    bits = int.from_bytes(stream[2:18], "little")

    def read(n: int) -> int:
        nonlocal bits
        value = bits & (1 << n) - 1
        bits >>= n
        return value

    if len(stream) < 18:
        return 0, 0
    is_small = read(1)

    def side() -> int:
        return 8 * (1 + read(5)) if is_small else 1 + read(_JXL_BITS[read(2)])

    height = side()
    ratio = read(3)
    return (height * _JXL_RATIOS[ratio][0] // _JXL_RATIOS[ratio][1] if ratio else side()), height
