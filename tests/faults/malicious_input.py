"""Pictures that are none, that are broken, and that are far larger than they look: a corpus made by hand."""

import io
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageCms, features

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", *(["AVIF"] if features.check("avif") else []))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One file, and what must become of it."""

    name: str
    data: bytes
    #: "either": damage that a decoder may see or not; rendered whole, or refused
    becomes: Literal["rendered", "refused", "either"] = "refused"
    #: of the picture it is the mask of; None: it is a picture itself
    mask_of: tuple[int, int] | None = None


def corpus() -> list[Sample]:
    """All of it, some 100 files."""
    return [*nothing(), *broken(), *bombs(), *modes(), *masks()]


def nothing() -> Iterator[Sample]:
    """What is no picture."""
    others = {
        "empty": b"",
        "text": b"hello",
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n",
        "PPM": b"P6 1 1 255\nabc",
        "zeros": bytes(10_000),
        "escape sequences": b"\x1b[31m\n2026-01-01 00:00:00 ERROR \x07" * 10,
    }
    for name, data in others.items():
        yield Sample(name=name, data=data)
    for file_format in FORMATS:
        yield Sample(name=f"the first bytes of {file_format}", data=saved(file_format)[:16])


def broken() -> Iterator[Sample]:
    """Truncated and damaged files of every format."""
    for file_format in FORMATS:
        data = saved(file_format)
        yield Sample(name=f"half of {file_format}", data=data[: len(data) // 2])
        for seed in range(4):
            draw = random.Random(seed)
            damaged = bytearray(data)
            for _ in range(1 + len(data) // 200):
                damaged[draw.randrange(12, len(data))] = draw.randrange(256)
            yield Sample(name=f"damaged {file_format} {seed}", data=bytes(damaged), becomes="either")
    for other in FORMATS[1:]:
        name = f"{other} behind PNG's signature"
        yield Sample(name=name, data=b"\x89PNG\r\n\x1a\n" + saved(other)[8:])


def bombs() -> Iterator[Sample]:
    """Small files that mean a lot."""
    side = 60_000
    yield Sample(name="PNG of 3.6 gigapixels", data=png(side, side))
    yield Sample(name="JPEG of 4.2 gigapixels", data=resized_jpeg(65_000))
    yield Sample(name="GIF of 3.6 gigapixels", data=gif(side, side, 1))
    yield Sample(name="BMP of 3.6 gigapixels", data=bmp(side, side))
    yield Sample(name="TIFF of 3.6 gigapixels", data=tiff(side, side))
    yield Sample(name="WebP of 268 megapixels, animated", data=webp(16_384, 16_384, 2))
    yield Sample(name="PNG of 4 megapixels and one", data=png(2000, 2001))
    yield Sample(name="PNG of 4 megapixels", data=png(2000, 2000), becomes="rendered")
    yield Sample(name="GIF of 100,000 frames", data=gif(64, 64, 100_000), becomes="rendered")
    yield Sample(name="APNG of 100,000 frames", data=apng(100_000), becomes="rendered")
    yield Sample(name="WebP of 20,000 frames", data=webp(64, 64, 20_000), becomes="rendered")
    yield Sample(name="TIFF of 10,000 pages", data=tiff(64, 64, pages=10_000), becomes="rendered")
    yield Sample(name="TIFF whose pages go round", data=tiff(64, 64, pages=0), becomes="rendered")
    yield Sample(name="JPEG of 1,000 scans of 4 megapixels", data=jpeg_of_scans(2000, 1000))
    yield Sample(
        name="JPEG of 1,000 scans whose tables hold an end", data=jpeg_of_scans(2000, 1000, b"\xff\xd9")
    )
    film = random.Random(1).randbytes(10_000_000)  # as telephones write behind it
    yield Sample(name="JPEG with a film behind it", data=saved("JPEG") + film, becomes="rendered")
    jpeg = saved("JPEG")
    filled = jpeg[:2] + b"\xff" * 10_000_000 + jpeg[2:]
    yield Sample(name="JPEG with 10 MB of filling", data=filled)
    yield Sample(name="JPEG with some filling", data=jpeg[:2] + b"\xff" * 1000 + jpeg[2:], becomes="rendered")
    yield Sample(name="PNG of 1,000,000 chunks", data=png(64, 64, chunk(b"IDAT", b"") * 1_000_000))
    yield Sample(name="TIFF of 1,000,000 strips", data=tiff_of_strips(1_000_000))
    text = zlib.compress(b"a" * 200_000_000, 9)
    metadata = {
        "zTXt of 200 MB": chunk(b"zTXt", b"a\0\0" + text),
        "iTXt of 200 MB": chunk(b"iTXt", b"a\0\1\0\0\0" + text),
        "200 zTXt of 1 MB": chunk(b"zTXt", b"a\0\0" + zlib.compress(b"a" * 1_000_000, 9)) * 200,
        "iCCP of 200 MB": chunk(b"iCCP", b"a\0\0" + text),
    }
    for name, chunks in metadata.items():
        yield Sample(name=name, data=png(64, 64, chunks), becomes="rendered")
    yield Sample(
        name="ICC profile that is none",
        data=saved("JPEG", icc_profile=b"\xff" * 100_000),
        becomes="rendered",
    )
    yield Sample(
        name="ICC profile of 10 MB", data=saved("JPEG", icc_profile=b"x" * 10_000_000), becomes="rendered"
    )
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    cut = bytearray(profile[:-100])
    cut[128:132] = b"\xff\xff\xff\xff"  # how many tags it has
    yield Sample(
        name="ICC profile of 4,294,967,295 tags",
        data=saved("PNG", icc_profile=bytes(cut)),
        becomes="rendered",
    )
    yield Sample(name="EXIF that points at itself", data=jpeg_with_exif(exif_loop()), becomes="rendered")
    yield Sample(name="EXIF of 4 billion entries", data=jpeg_with_exif(exif_huge()), becomes="rendered")
    yield Sample(
        name="PNG with 20 MB of EXIF",
        data=png(64, 64, chunk(b"eXIf", b"II*\0" + bytes(20_000_000))),
        becomes="rendered",
    )


def modes() -> Iterator[Sample]:
    """Every kind of pixel that a sound file may have."""
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield Sample(name=f"PNG {mode}", data=in_mode(mode, "PNG"), becomes="rendered")
    for mode in ("L", "RGB", "CMYK"):
        yield Sample(name=f"JPEG {mode}", data=in_mode(mode, "JPEG"), becomes="rendered")
    for mode in ("1", "L", "RGB", "RGBA", "CMYK", "I;16"):
        yield Sample(name=f"TIFF {mode}", data=in_mode(mode, "TIFF"), becomes="rendered")
    for mode in ("F", "I"):
        yield Sample(name=f"TIFF {mode}", data=in_mode(mode, "TIFF"))


def masks() -> Iterator[Sample]:
    """Masks of every mode, and wrong ones."""
    size = 64, 64
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield Sample(name=f"mask {mode}", data=in_mode(mode, "PNG"), becomes="rendered", mask_of=size)
    for mode in ("L", "RGB", "CMYK"):
        yield Sample(name=f"mask JPEG {mode}", data=in_mode(mode, "JPEG"), becomes="rendered", mask_of=size)
    yield Sample(name="mask of floats", data=in_mode("F", "TIFF"), mask_of=size)
    yield Sample(name="mask of another size", data=png(72, 64), becomes="rendered", mask_of=size)
    yield Sample(name="mask of 3.6 gigapixels", data=png(60_000, 60_000), mask_of=size)
    yield Sample(name="mask that is none", data=b"not a mask", mask_of=size)
    yield Sample(name="all black mask", data=png(64, 64), becomes="rendered", mask_of=size)


def colours(width: int = 64, height: int = 64) -> Image.Image:
    """A picture with something in it."""
    blocks = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(blocks, np.ones((8, 8, 1), np.uint8)))


def saved(file_format: str, image: Image.Image | None = None, **options: object) -> bytes:
    """A sound file."""
    file = io.BytesIO()
    (image or colours()).save(file, file_format, **options)
    return file.getvalue()


def in_mode(mode: str, file_format: str) -> bytes:
    """A sound file of that kind of pixel."""
    if mode == "I;16":
        return saved(file_format, Image.fromarray(np.asarray(colours().convert("L")).astype(np.uint16) * 257))
    return saved(file_format, colours().convert(mode))


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes) -> bytes:
    """Black, one bit a pixel; of the huge ones only some rows are there."""
    rows = min(height, 4096)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress((b"\0" + bytes((width + 7) // 8)) * rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + body + chunk(b"IEND", b"")


def apng(frames: int) -> bytes:
    """64 × 64 pixels, so many times."""
    pixels = zlib.compress((b"\0" + bytes(8)) * 64)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 1, 0, 0, 0, 0))]
    parts += [chunk(b"acTL", struct.pack(">II", frames, 0)), _frame(0), chunk(b"IDAT", pixels)]
    for number in range(1, frames):
        parts += [_frame(2 * number - 1), chunk(b"fdAT", struct.pack(">I", 2 * number) + pixels)]
    return b"".join([*parts, chunk(b"IEND", b"")])


def _frame(sequence: int) -> bytes:
    return chunk(b"fcTL", struct.pack(">IIIIIHHBB", sequence, 64, 64, 0, 0, 1, 100, 0, 0))


def gif(width: int, height: int, frames: int) -> bytes:
    """A canvas of that size, so many frames of 8 × 8 pixels."""
    header = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    # LZW, codes of 3 bits: clear, eight pixels, clear, ...; then end
    codes = ([4] + [0, 1] * 1) * 32 + [5]
    bits = sum(code << (3 * place) for place, code in enumerate(codes))
    pixels = bits.to_bytes((3 * len(codes) + 7) // 8, "little")
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, 8, 8, 0) + b"\x02" + bytes([len(pixels)]) + pixels + b"\0"
    return header + image * frames + b"\x3b"


def bmp(width: int, height: int) -> bytes:
    """A header, and hardly anything else."""
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 100, 0, 0, 54) + head + bytes(100)


def tiff(width: int, height: int, pages: int = 1) -> bytes:
    """Grey, one strip, shared by all pages; with 0 pages one that is followed by itself."""
    strip = bytes(min(width * height, 4096))
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 4, height), (279, 4, len(strip))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    length = 2 + len(entries) + 4
    first = 8 + len(strip)
    parts = [b"II*\0", struct.pack("<I", first), strip]
    for page in range(max(pages, 1)):
        following = first + (page + 1) * length if page + 1 < pages else 0
        parts.append(struct.pack("<H", len(tags)) + entries)
        parts.append(struct.pack("<I", following if pages else first))
    return b"".join(parts)


def webp(width: int, height: int, frames: int) -> bytes:
    """An animation of 64 × 64 pixels on a canvas of that size."""
    still = saved("WEBP", lossless=True)
    body = still[12:]  # a VP8L chunk
    header = bytes(6) + (31).to_bytes(3, "little") * 2 + (1).to_bytes(3, "little") + b"\0"
    frame = b"ANMF" + struct.pack("<I", len(header) + len(body)) + header + body
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    parts = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas
    parts += b"ANIM" + struct.pack("<IIH", 6, 0, 0) + frame * frames
    return b"RIFF" + struct.pack("<I", 4 + len(parts)) + b"WEBP" + parts


def resized_jpeg(side: int) -> bytes:
    """A JPEG whose header says `side` × `side`."""
    data = bytearray(saved("JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", side, side)
    return bytes(data)


def jpeg_of_scans(side: int, scans: int, comment: bytes = b"") -> bytes:
    """A progressive JPEG with its last scan again and again, and a comment before each."""
    data = saved("JPEG", Image.new("L", (side, side), 128), progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    between = b"\xff\xfe" + struct.pack(">H", 2 + len(comment)) + comment
    return data[:-2] + (between + last) * scans + b"\xff\xd9"


def tiff_of_strips(strips: int) -> bytes:
    """A TIFF of 64 × 64 pixels that says it has so many strips."""
    tags = [(256, 1, 64), (257, 1, 64), (258, 1, 8), (259, 1, 1), (262, 1, 1), (273, strips, 8), (277, 1, 1)]
    tags += [(278, 1, 1), (279, strips, 8)]
    directory = b"".join(struct.pack("<HHII", tag, 4, n, value) for tag, n, value in tags)
    start = struct.pack("<I", 8 + 4 * strips)
    return b"II*\0" + start + bytes(4 * strips) + struct.pack("<H", len(tags)) + directory + bytes(4)


def jpeg_with_exif(exif: bytes) -> bytes:
    """A JPEG with that EXIF block."""
    data = saved("JPEG")
    block = b"Exif\0\0" + exif
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]


def exif_loop() -> bytes:
    """An EXIF IFD that is its own sub-IFD, and is followed by itself."""
    entries = struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<HHII", 0x0112, 3, 1, 6)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 2) + entries + struct.pack("<I", 8)


def exif_huge() -> bytes:
    """An EXIF entry of 4,294,967,295 values."""
    entry = struct.pack("<HHII", 0x010F, 2, 0xFFFFFFFF, 8)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 0)
