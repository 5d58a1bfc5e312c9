"""Decoding: what is read, and what is refused in one clear line."""

import io
import re
import struct
import sys
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_worker.pictures.composite import compose
from img2img_worker.pictures.containers import declared_size
from img2img_worker.pictures.decode import Decoder, count_pixels, decode_picture, flatten
from img2img_worker.pictures.mask import soft_mask
from img2img_worker.pictures.picture_file import encode_picture
from img2img_worker.pictures.prepare import prepare

MAX_PIXELS = 1_000_000
FORMATS = ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", *(["AVIF"] if features.check("avif") else [])]
SHARP = Params(mask_blur_x=0, mask_blur_y=0)


def colours(width: int = 80, height: int = 64) -> Image.Image:
    blocks = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(blocks, np.ones((8, 8, 1), np.uint8)))


def saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def decoded(data: bytes) -> Image.Image:
    return decode_picture(data, "image", MAX_PIXELS)


def refusal(data: bytes, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(Refused) as caught:
        decode_picture(data, "image", max_pixels)
    message = str(caught.value)
    assert message.startswith("image is ")
    assert "\n" not in message
    assert len(message) < 400
    return message


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes, pixels: bytes | None = None) -> bytes:
    """A PNG by hand: `pixels` is what is deflated, black by default."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    raw = (b"\0" + bytes(3 * width)) * height if pixels is None else pixels
    body = chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_allowed_format_is_read(file_format: str) -> None:
    image = decoded(saved(colours(), file_format))
    assert image.mode == "RGB"
    difference = np.abs(np.asarray(image).astype(int) - np.asarray(colours()).astype(int))
    assert difference.mean() < (1 if file_format in ("PNG", "TIFF", "BMP") else 25)


@pytest.mark.parametrize("data", [b"", b"hello", b"<svg/>", b"P6 1 1 255\nabc", b"%!PS", b"RIFF....WAVE"])
def test_what_is_no_picture_is_refused_with_the_list_of_formats(data: bytes) -> None:
    assert "PNG, JPEG, WebP, TIFF, BMP, AVIF, GIF" in refusal(data)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_truncated_file_is_refused(file_format: str) -> None:
    data = saved(colours(), file_format)
    for cut in (*range(8, 40), *range(40, len(data) * 9 // 10, 1 + len(data) // 60)):
        # nothing of its reader's insides: "unpack_from requires a buffer of at least 4 bytes"
        assert not re.search(r"unpack|buffer|index|object|bytes-like|0x[0-9a-f]", refusal(data[:cut]))


def test_a_bomb_is_refused_by_its_header() -> None:
    message = refusal(png(50_000, 50_000, pixels=b"\0"), 64_000_000)
    assert message == "image is 50000 × 50000 pixels: give a picture of at most 64,000,000 pixels"


def test_the_limit_is_ours_alone() -> None:
    pillows = Image.MAX_IMAGE_PIXELS
    data = saved(Image.new("L", (1000, 1000)), "PNG")
    assert decode_picture(data, "image", 1_000_000).size == (1000, 1000)
    assert "1000 × 1000" in refusal(data, 999_999)
    assert pillows == Image.MAX_IMAGE_PIXELS


def test_pillows_own_limit_is_not_in_the_way_of_a_higher_one() -> None:
    assert count_pixels(png(20_000, 20_000, pixels=b""), "image", 10**9) == 400_000_000


def jxl(image: Image.Image, **options: object) -> bytes:
    import_module("pillow_jxl")
    return saved(image, "JXL", **options)


def heic(image: Image.Image) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=90)
    return file.getvalue()


SIDES = [(300, 200), (64, 64), (8, 256), (333, 250), (480, 270), (1000, 40), (40, 1000), (17, 9)]


@pytest.mark.parametrize("size", SIDES)
def test_what_its_reader_would_decode_at_once_is_measured_before(size: tuple[int, int]) -> None:
    image, exif = Image.new("RGB", size, "#336699"), Image.Exif()
    exif[0x010E] = "in a container"
    files = [
        *(
            saved(image, "WEBP", **options)
            for options in ({"lossless": True}, {"quality": 80}, {"exif": exif})
        ),
        *(jxl(image, **options) for options in ({}, {"use_container": True}, {"exif": exif.tobytes()})),
    ]
    for data in files:
        assert declared_size(data) == size
        assert f"{size[0]} × {size[1]}" in refusal(data, size[0] * size[1] - 1)
        assert decoded(data).size == size
    assert declared_size(saved(colours(), "JPEG")[:12] + files[0][12:]) is None


@pytest.mark.parametrize("encode", [heic, jxl])
def test_plug_ins_read_what_phones_write(encode: Callable[[Image.Image], bytes]) -> None:
    data = encode(colours())
    image = decoded(data)
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - np.asarray(colours()).astype(int)).mean() < 25
    refusal(data[: len(data) // 2])
    assert "80 × 64" in refusal(data, 5000)


@pytest.mark.parametrize("encode", [heic, jxl])
def test_without_its_plug_in_a_format_is_named(
    encode: Callable[[Image.Image], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(colours())
    for module in ("pillow_heif", "pillow_jxl.JpegXLImagePlugin"):
        monkeypatch.setitem(sys.modules, module, None)
    name = "HEIC" if encode is heic else "JPEG XL"
    assert f"a {name} picture" in refusal(data)
    assert "img2img-farm[photos]" in refusal(data)


@pytest.mark.parametrize(
    "junk",
    [
        chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000))),
        chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(50_000_000))),
        chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000))),
        chunk(b"pHYs", b"\0"),
        chunk(b"tRNS", b"\0"),
        chunk(b"tRNS", b"\xff" * 6),
        chunk(b"acTL", struct.pack(">II", 0, 0)),
        chunk(b"tEXt", b"a\0b")[:-1] + b"?",
        chunk(b"iCCP", b"a\0\0" + zlib.compress(b"no profile")),
        chunk(b"eXIf", b"no exif at all"),
        chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff"),
        chunk(b"tEXt", b"parameters\0whatever"),
    ],
    ids=lambda junk: f"{junk[4:8].decode()}-{len(junk)}",
)
def test_broken_metadata_does_not_spoil_sound_pixels(junk: bytes) -> None:
    assert decoded(png(4, 4, junk)).size == (4, 4)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_jpegs_broken_exif_counts_as_none() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(colours(), "JPEG", exif=exif)
    assert decoded(data).size == (64, 80)
    at = data.index(b"Exif\0\0") + 6
    for broken in (b"\xff" * 8, b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x09"):
        assert decoded(data[:at] + broken + data[at + 8 :]).size == (80, 64)


def tiff(tile_side: int, *, sides: int = 1) -> bytes:
    """An 8 × 8 TIFF by hand, whose tile tags say `tile_side`, `sides` times."""
    entries = {256: 8, 257: 8, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile_side, 323: tile_side, 324: 8, 325: 8}
    counts = {322: sides, 323: sides}
    tags = [struct.pack("<HHII", tag, 4, counts.get(tag, 1), value) for tag, value in entries.items()]
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(tags) + bytes(4) + bytes(64)


def test_a_tiff_whose_tile_dwarfs_the_picture_is_refused() -> None:
    assert "65520 × 65520" in refusal(tiff(65_520))


def test_a_tiff_whose_tile_has_no_single_size_is_refused() -> None:
    refusal(tiff(8, sides=2))


@pytest.mark.parametrize("file_format", [name for name in FORMATS if name not in ("BMP", "GIF")])
def test_exif_orientation_is_applied(file_format: str) -> None:
    image, turns = colours(), {3: 180, 6: 270, 8: 90}
    for orientation, degrees in turns.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        upright = decoded(saved(image, file_format, exif=exif))
        expected = decoded(saved(image, file_format)).rotate(degrees, expand=True)
        assert upright.size == expected.size
        assert np.abs(np.asarray(upright).astype(int) - np.asarray(expected)).mean() < 1


def test_sixteen_bit_grey_is_divided_by_257() -> None:
    grey = np.array([[0, 257, 32896, 65535], [128, 129, 65406, 65407]], np.uint16)
    for file_format in ("PNG", "TIFF"):
        image = decoded(saved(Image.fromarray(grey), file_format))
        assert image.mode == "L"
        assert np.asarray(image).tolist() == [[0, 1, 128, 255], [0, 1, 254, 255]]


@pytest.mark.parametrize(
    ("mode", "file_format", "expected"),
    [
        ("1", "PNG", "L"),
        ("L", "JPEG", "L"),
        ("LA", "PNG", "L"),
        ("RGBA", "PNG", "RGBA"),
        ("RGBA", "WEBP", "RGBA"),
        ("P", "PNG", "RGB"),
        ("P", "GIF", "RGB"),
        ("CMYK", "JPEG", "RGB"),
        ("CMYK", "TIFF", "RGB"),
        ("YCbCr", "JPEG", "RGB"),
    ],
)
def test_every_kind_of_pixel_becomes_eight_bits_of_grey_or_colour(
    mode: str, file_format: str, expected: str
) -> None:
    image = colours().convert(mode)
    if mode == "RGBA":
        image.putalpha(200)
    assert decoded(saved(image, file_format)).mode == expected


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_defined_range_are_refused(mode: str) -> None:
    assert "8 or 16 bits" in refusal(saved(Image.new(mode, (8, 8)), "TIFF"))


def test_a_palettes_alphas_are_kept_and_a_single_transparent_colour_stays_as_it_is() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    read = decoded(saved(image, "PNG", transparency=bytes([0, 128])))
    assert flatten(read, "#0000ff").getpixel((0, 0)) == (0, 0, 255)
    read = decoded(saved(image, "PNG", transparency=0))
    assert read.mode == "RGB"
    assert flatten(read, "#0000ff").getpixel((0, 0)) == (255, 0, 0)


def test_the_result_shows_where_a_picture_has_its_transparent_colour() -> None:
    image = colours()
    image.paste("#102030", (0, 0, 40, 64))
    data = saved(image, "PNG", transparency=(0x10, 0x20, 0x30))
    params = Params(width=80, height=64, inpaint_full_res=False)
    result = Image.new("RGB", (80, 64), "#ff00ff")
    picture = compose(result, decoded(data), Image.new("L", (80, 64)), params).picture
    assert picture.getpixel((10, 10)) == (255, 0, 255)
    assert picture.getpixel((60, 10)) == image.getpixel((60, 10))


def test_a_gif_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("#ff0000", "#0000ff")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decoded(data).getpixel((4, 4)) == (255, 0, 0)


def test_flattening_blends_on_the_background() -> None:
    image = Image.new("RGBA", (1, 1), (200, 100, 0, 128))
    assert flatten(image, "#ffffff").getpixel((0, 0)) == (227, 177, 127)
    greys = decoded(saved(Image.new("LA", (1, 1), (10, 0)), "PNG"))
    assert flatten(greys, "#102030").getpixel((0, 0)) == (10, 10, 10), "A1111 knows no alpha of grey"


def test_a_mask_is_its_alpha_where_that_is_not_opaque() -> None:
    pixels = np.full((1, 4, 4), 255, np.uint8)
    pixels[0, :, 3] = [0, 128, 129, 255]
    image = Image.fromarray(pixels)
    assert np.asarray(soft_mask(image, SHARP)).tolist() == [[0, 0, 255, 255]]
    soft = SHARP.model_copy(update={"mask_round": False})
    assert np.asarray(soft_mask(image, soft)).tolist() == [[0, 128, 129, 255]]
    inverted = SHARP.model_copy(update={"inpainting_mask_invert": 1})
    assert np.asarray(soft_mask(image, inverted)).tolist() == [[255, 255, 0, 0]]


def test_a_mask_is_its_luminance_where_alpha_says_nothing() -> None:
    red = np.zeros((1, 1, 4), np.uint8)
    red[..., 0] = red[..., 3] = 255
    assert soft_mask(Image.fromarray(red), SHARP).getpixel((0, 0)) == 76
    greys = decoded(saved(Image.new("LA", (1, 1), (40, 0)), "PNG"))
    assert soft_mask(greys, SHARP).getpixel((0, 0)) == 40


@pytest.mark.parametrize("size", [(1, 1), (1, 60), (300, 1), (7, 2), (1, 20_000)])
@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("masked", [True, False])
def test_tiny_and_extreme_pictures_are_prepared_or_refused(
    size: tuple[int, int], mode: int, masked: bool
) -> None:
    pictures = Image.new("RGB", size, "#336699"), Image.new("L", size, 255) if masked else None
    for full_res in (True, False):
        params = Params(width=512, height=64, resize_mode=mode, inpaint_full_res=full_res)
        try:
            prepared = prepare(*pictures, params)
        except Refused as refused:
            message = str(refused)
        else:
            assert prepared.pixels.shape == (64, 512, 3)
            assert np.ptp(prepared.pixels.reshape(-1, 3), axis=0).max() <= 1
            finished = compose(Image.new("RGB", (512, 64)), *pictures, params).picture
            assert finished.size == (size if masked and full_res else (512, 64))
            continue
        assert message.startswith("image is ")
        assert f"{size[0]} × {size[1]}" in message
        assert mode == 3 or max(size) == 20_000


@settings(max_examples=300)
@given(
    st.binary(max_size=200), st.sampled_from([b"", *(saved(colours(16, 16), f) for f in FORMATS)]), st.data()
)
def test_arbitrary_bytes_are_read_or_refused(noise: bytes, whole: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(whole)))
    kept = data.draw(st.sampled_from([0, len(noise), 10_000]))
    for candidate in (noise, whole[:at] + noise + whole[at + kept :], whole[:12] + noise):
        try:
            image = decode_picture(candidate, "image", 100_000)
        except Refused:
            continue
        assert image.mode in ("L", "RGB", "RGBA")
        assert image.width * image.height <= 100_000


def with_png_chunk(kind: bytes, content: bytes, *, sound: bool) -> bytes:
    whole = saved(colours(16, 16), "PNG")
    extra = chunk(kind, content)
    return whole[:33] + (extra if sound else extra[:-1] + b"?") + whole[33:]


def with_jpeg_segment(marker: int, content: bytes) -> bytes:
    whole = saved(colours(16, 16), "JPEG")
    return whole[:2] + struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content + whole[2:]


def with_webp_chunk(kind: bytes, content: bytes) -> bytes:
    still = saved(colours(16, 16), "WEBP", lossless=True)[12:]
    flags = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}.get(kind, 0)
    head = b"VP8X" + struct.pack("<IB", 10, flags) + bytes(3) + struct.pack("<HBHB", 15, 0, 15, 0)
    extra = kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    parts = (head, extra, still) if kind == b"ICCP" else (head, still, extra)
    return b"RIFF" + struct.pack("<I", 4 + sum(map(len, parts))) + b"WEBP" + b"".join(parts)


def with_gif_extension(label: int, content: bytes) -> bytes:
    whole = saved(colours(16, 16), "GIF")
    at = 13 + 3 * 2 ** (1 + (whole[10] & 7))
    blocks = [content[i : i + 255] for i in range(0, len(content), 255)]
    body = b"".join(bytes([len(block)]) + block for block in blocks)
    return whole[:at] + b"!" + bytes([label]) + body + b"\0" + whole[at:]


def with_tiff_tag(tag: int, kind: int, count: int, value: int) -> bytes:
    """A grey ramp of 8 × 8 pixels, with one more tag."""
    pixels = bytes(range(64))
    tags = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 279: 64}
    entries = [struct.pack("<HHII", each, 4, 1, number) for each, number in tags.items()]
    entries.append(struct.pack("<HHII", tag, kind, count, value))
    return (
        b"II*\0" + struct.pack("<I", 72) + pixels + struct.pack("<H", len(entries)) + b"".join(entries)
    ) + bytes(4)


TEXT = st.one_of(st.binary(max_size=80), st.binary(max_size=40).map(lambda data: b"key\0" + data))
EXIF = st.binary(max_size=60).map(lambda data: b"Exif\0\0II*\0" + data)
ANCILLARY = st.one_of(
    st.builds(
        with_png_chunk,
        st.sampled_from(
            b"tEXt zTXt iTXt iCCP eXIf gAMA cHRM sRGB pHYs tIME bKGD sBIT sPLT tRNS acTL fcTL caBX".split()
        ),
        st.one_of(TEXT, EXIF.map(lambda exif: exif[6:])),
        sound=st.booleans(),
    ),
    st.builds(with_jpeg_segment, st.sampled_from([*range(0xE0, 0xF0), 0xFE]), st.one_of(TEXT, EXIF)),
    st.builds(
        with_jpeg_segment,
        st.sampled_from([0xE0, 0xE2, 0xED, 0xE1]),
        st.tuples(
            st.sampled_from(
                [
                    b"JFIF\0",
                    b"ICC_PROFILE\0",
                    b"Photoshop 3.0\x008BIM",
                    b"MPF\0",
                    b"http://ns.adobe.com/xap/1.0/\0",
                ]
            ),
            st.binary(max_size=40),
        ).map(b"".join),
    ),
    st.builds(
        with_webp_chunk,
        st.sampled_from([b"ICCP", b"EXIF", b"XMP ", b"ABCD"]),
        st.one_of(st.binary(min_size=1, max_size=60), EXIF),
    ),
    st.builds(with_gif_extension, st.sampled_from([0xFE, 0xFF, 0x01, 0xAB]), st.binary(max_size=300)),
    st.builds(
        with_tiff_tag,
        # texts, resolutions, profiles, EXIF's and GPS' directories, Photoshop's and private tags
        st.sampled_from(
            [270, 282, 296, 305, 306, 315, 700, 33723, 34377, 34665, 34675, 34853, 50_000, 65_000]
        ),
        st.integers(0, 20),
        st.integers(0, 2**32 - 1) | st.integers(0, 20),
        st.integers(0, 2**32 - 1) | st.integers(0, 200),
    ),
)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=600)
@given(ANCILLARY)
def test_no_metadata_spoils_sound_pixels(data: bytes) -> None:
    whole = {16: colours(16, 16), 8: Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))}
    image = decoded(data)
    expected = np.asarray(whole[image.width].convert("RGB")).astype(int)
    found = np.asarray(image.convert("RGB")).astype(int)
    exact = not data.startswith((b"\xff\xd8", b"GIF"))
    assert np.abs(found - expected).mean() < (0.1 if exact else 25)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=100)
@given(st.sampled_from(FORMATS), st.binary(min_size=1, max_size=200), st.binary(min_size=1, max_size=100))
def test_no_profile_and_no_exif_spoils_sound_pixels(file_format: str, profile: bytes, exif: bytes) -> None:
    sound = Image.Exif()
    sound[0x010E] = "x" * 100
    whole = saved(colours(16, 16), file_format, icc_profile=profile, exif=sound)
    at = whole.find(sound.tobytes()[6:])
    data = whole if at < 0 else whole[:at] + exif + whole[at + len(exif) :]
    np.testing.assert_array_equal(
        np.asarray(decoded(data)), np.asarray(decoded(saved(colours(16, 16), file_format)))
    )


def all_at_once(*calls: Callable[[], bytes]) -> list[bytes]:
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], bytes]) -> bytes:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_pictures_are_read_and_written_from_several_threads() -> None:
    files = [saved(colours(160, 8 * n), FORMATS[n % len(FORMATS)]) for n in range(1, 9)]
    alone = [decoded(data).tobytes() for data in files]
    calls = [lambda data=data: decoded(data).tobytes() for data in files]
    for _ in range(5):
        assert all_at_once(*calls) == alone

    shared, formats = colours(160, 160), ["png", "jpeg", "webp"] * 3
    alone = [encode_picture(shared, name, f"text for {name}") for name in formats]
    writes = [lambda name=name: encode_picture(shared, name, f"text for {name}") for name in formats]
    for _ in range(5):
        assert all_at_once(*writes) == alone


def test_so_many_pixels_are_decoded_at_a_time() -> None:
    large = saved(Image.new("L", (100, 100)), "PNG")
    decoder, third = Decoder(10_000), threading.Barrier(3)

    def is_third_at_once() -> bool:
        with decoder.decoded(large, None):
            try:
                third.wait(0.5)  # two are allowed, so that it breaks
            except threading.BrokenBarrierError:
                return False
            return True

    with ThreadPoolExecutor(6) as pool:
        assert not any(each.result() for each in [pool.submit(is_third_at_once) for _ in range(6)])


def test_what_was_refused_takes_no_room() -> None:
    large = saved(Image.new("L", (100, 100)), "PNG")
    decoder = Decoder(10_000)
    for mask in (b"nothing", large[:40], large[:60]) * 3:
        with pytest.raises(Refused, match="mask is "), decoder.decoded(large, mask):
            pass
    with decoder.decoded(large, large) as (picture, mask_picture):
        assert mask_picture is not None
        assert picture.size == mask_picture.size == (100, 100)
