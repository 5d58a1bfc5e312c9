"""In how many parts a picture's file has its pixels: it may have millions, each of which costs time."""

import re
import struct

#: what is read: a JPEG's scans (encoders write a dozen at most), its segments, a PNG's chunks or a GIF's
#: blocks, and a TIFF's strips or tiles (64 megapixels have as many of 16 × 16)
_SCANS, _PARTS = 100, 250_000
#: a JPEG's markers, but for those without a segment, and those of them that matter
_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd8])")
_SCAN, _END = 0xDA, 0xD9
#: a TIFF's beginnings: its order of bytes, an offset's and a count's format, bytes of a tag
TIFF = {
    b"II*\0": ("<", "I", "H", 12),
    b"MM\0*": (">", "I", "H", 12),
    b"II+\0": ("<", "Q", "Q", 20),
    b"MM\0+": (">", "Q", "Q", 20),
}
_STRIP_OFFSETS, _TILE_OFFSETS = 273, 324


def too_many_parts(data: bytes) -> str | None:
    """Of what a file has so many that reading it takes minutes or gigabytes; None: it is read soon."""
    if data.startswith(b"\xff\xd8"):
        return f"more than {_SCANS} scans or {_PARTS:,} segments" if _has_many_scans(data) else None
    if data.startswith(b"\x89PNG"):
        return f"more than {_PARTS:,} chunks" if _has_many_chunks(data) else None
    if data.startswith(b"GIF8"):
        return f"more than {_PARTS:,} blocks of metadata" if _has_many_blocks(data) else None
    if data[:4] in TIFF:
        return f"more than {_PARTS:,} strips or tiles" if _strips(data) > _PARTS else None
    return None


def tiff_directory(data: bytes) -> tuple[int, list[bytes]]:
    """Where the directory of a TIFF's first page begins, and its tags; none where there is no directory."""
    order, offset, count, length = TIFF[data[:4]]
    try:
        (start,) = struct.unpack_from(order + offset, data, struct.calcsize(offset))
        (n,) = struct.unpack_from(order + count, data, start)
    except struct.error:
        return 0, []
    first = start + struct.calcsize(count)
    return start, [data[at : at + length] for at in range(first, min(first + n * length, len(data)), length)]


def _has_many_scans(data: bytes) -> bool:
    """As decoders go through a JPEG: what follows its end (a film, often) is not looked at."""
    at, scans, left = 2, 0, _PARTS
    while left > 0 and scans <= _SCANS:
        found = _MARKER.search(data, at)
        if found is None or found[1][0] == _END:
            return False
        left -= 1 if scans else 1 + found.start() - at  # before the first scan, these are bytes that fill up
        scans += found[1][0] == _SCAN
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return True


def _has_many_chunks(data: bytes) -> bool:
    """Of a PNG, up to its end."""
    at = len(b"\x89PNG\r\n\x1a\n")
    for _ in range(_PARTS):
        if at + 8 > len(data) or data[at + 4 : at + 8] == b"IEND":
            return False
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return True


def _has_many_blocks(data: bytes) -> bool:
    """Of a GIF, in the extensions before its first frame."""
    flags = data[10] if len(data) > 10 else 0
    at, left = 13 + (3 << 1 + (flags & 7) if flags & 0x80 else 0), _PARTS
    while data[at : at + 1] == b"\x21" and left > 0:
        at += 2
        while at < len(data) and data[at] and left > 0:
            at += 1 + data[at]
            left -= 1
        at += 1
        left -= 1
    return left <= 0


def _strips(data: bytes) -> int:
    """How many strips or tiles the first page of a TIFF says it has."""
    order, offset, _, length = TIFF[data[:4]]
    _, tags = tiff_directory(data)
    whole = (struct.unpack_from(f"{order}HH{offset}", tag) for tag in tags if len(tag) == length)
    return max((n for tag, _, n in whole if tag in (_STRIP_OFFSETS, _TILE_OFFSETS)), default=0)
