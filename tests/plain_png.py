"""Makes a picture of one grey without a library."""

import struct
import zlib


def plain_png(grey: int) -> bytes:
    """A PNG of 64x64 pixels of one `grey`, 0..255."""
    rows = (b"\0" + bytes([grey]) * 64) * 64
    header = struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
