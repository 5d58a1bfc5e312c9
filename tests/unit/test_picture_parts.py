"""Pictures whose files have their pixels in very many parts."""

import io
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from img2img_gateway.openai.alpha_mask import opaque_is_black
from img2img_gateway.thumbnailer import _open
from img2img_shared.errors import Refused
from img2img_shared.picture_parts import too_many_parts
from tests.faults.malicious_input import FORMATS, chunk, jpeg_of_scans, png, saved, tiff_of_strips

GIF = saved("GIF")
#: where its first frame begins: behind its header and its colours
START = 13 + (3 << 1 + (GIF[10] & 7))
MANY = {
    "scans": jpeg_of_scans(64, 200),
    "an end in a comment": jpeg_of_scans(64, 200, b"\xff\xd9"),
    "segments": b"\xff\xd8" + b"\xff\xe0\0\2" * 300_000 + saved("JPEG")[2:],
    "filling": b"\xff\xd8" + b"\xff" * 300_000 + saved("JPEG")[2:],
    "only filling": b"\xff\xd8" + b"\xff" * 1_000_000 + b"\xd0",
    "chunks": png(64, 64, chunk(b"IDAT", b"") * 300_000),
    "private chunks": png(64, 64, chunk(b"prVt", b"") * 300_000),
    "extensions": GIF[:START] + b"\x21\xfe\0" * 300_000 + GIF[START:],
    "blocks": GIF[:START] + b"\x21\xfe" + b"\x01a" * 300_000 + b"\0" + GIF[START:],
    "strips": tiff_of_strips(300_000),
}


@pytest.mark.parametrize("name", [name for name in MANY if name != "only filling"])
def test_files_of_very_many_parts_are_told_before_they_are_opened(name: str) -> None:
    assert too_many_parts(MANY[name]) is not None
    with pytest.raises(ValueError, match="too long to read"), _open(MANY[name], 64):
        pass


@pytest.mark.parametrize("file_format", FORMATS)
def test_what_encoders_write_has_not_too_many(file_format: str) -> None:
    assert too_many_parts(saved(file_format)) is None


def test_what_lies_behind_a_jpeg_or_is_not_one_at_all_is_not_counted() -> None:
    assert too_many_parts(saved("JPEG", progressive=True) + b"\xff\xda" * 1000) is None
    assert too_many_parts(MANY["only filling"]) is None
    for data in (b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0", b"II*\0", b"II+\0" + bytes(12)):
        assert too_many_parts(data) is None


def test_what_lies_behind_a_png_and_long_metadata_of_a_gif_are_not_too_many() -> None:
    assert too_many_parts(png(64, 64) + bytes(10_000_000)) is None
    comment = b"\x21\xfe" + (b"\xff" + bytes(255)) * 20_000 + b"\0"
    assert too_many_parts(GIF[:START] + comment + GIF[START:]) is None
    for end in range(20):
        assert too_many_parts(GIF[:end]) is None
        assert too_many_parts(png(64, 64)[:end]) is None


def test_a_tiff_of_rows_has_not_too_many() -> None:
    data = io.BytesIO()
    Image.new("L", (8, 4000)).save(data, "TIFF", tiffinfo={278: 1})
    assert too_many_parts(data.getvalue()) is None


def test_a_mask_of_very_many_parts_is_refused() -> None:
    services: Any = None  # it is refused before any is needed
    with pytest.raises(Refused, match="more than 250,000 strips or tiles"):
        opaque_is_black(services, MANY["strips"], 1_000_000)


@pytest.mark.skipif("AVIF" not in FORMATS, reason="this Pillow reads no AVIF")
def test_a_damaged_mask_is_refused_whatever_its_reader_raises() -> None:
    data = saved("AVIF", Image.new("RGBA", (64, 64)))
    start = data.index(b"mdat") + 4
    budget = SimpleNamespace(held_in_thread=lambda _: nullcontext())
    services: Any = SimpleNamespace(pictures=budget)
    with pytest.raises(Refused, match="it cannot be read"):
        opaque_is_black(services, data[:start] + b"\xff" * (len(data) - start), 1_000_000)
