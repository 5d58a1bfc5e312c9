"""The infotext: A1111's format, and the files that carry it."""

import io
import json
import re
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from img2img_shared.infotext_parser import read_pairs
from img2img_shared.params import Params
from img2img_shared.picture_texts import read_texts
from img2img_worker.pictures.infotext import infotext
from img2img_worker.pictures.picture_file import encode_picture

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8))


def read_infotext(data: bytes) -> str | None:
    return read_texts(data).get("parameters")


def text(params: Params, *, masked: bool = False, **changes: str) -> str:
    names: dict[str, Any] = {"prompt": "a cat", "negative_prompt": "", "model": "tiny", **changes}
    return infotext(params, seed=7, subseed=9, has_mask=masked, masked=masked, **names)


def pairs(params: Params, *, masked: bool = False, **changes: str) -> dict[str, str]:
    """The last line, taken apart as A1111's users do."""
    line = text(params, masked=masked, **changes).splitlines()[-1]
    found = re.findall(r'([\w ]+): ("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)', line)
    return {name: json.loads(value) if value.startswith('"') else value for name, value in found}


def test_the_text_is_a1111s() -> None:
    written = infotext(
        Params(width=640, sampler_name="DPM++ 2M Karras"),
        prompt="a cat, sleeping\non a mat",
        negative_prompt="blurry",
        seed=123,
        subseed=4,
        model="v1-5",
        model_hash="6ce0161689",
    )
    *prompts, line = written.split("\n")
    assert prompts == ["a cat, sleeping", "on a mat", "Negative prompt: blurry"]
    assert line.startswith(
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.0, Seed: 123, Size: 640x512, "
        "Model hash: 6ce0161689, Model: v1-5, Denoising strength: 0.75, RNG: CPU, Version: img2img-farm "
    )


def test_weights_in_8_bits_are_told_as_a1111_tells_them() -> None:
    told = infotext(
        Params(), prompt="a cat", negative_prompt="", seed=7, subseed=9, model="tiny", float8=True
    )
    assert ", Model: tiny, FP8 weight: Enable, Cache FP16 weight for LoRA: True, Denoising strength: " in told


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({}, "Model: tiny, VAE hash: a6b9ba382a, VAE: soft.safetensors, Denoising"),
        ({"add_vae_hash_to_info": False}, "Model: tiny, VAE: soft.safetensors, Denoising"),
        ({"add_vae_name_to_info": False}, "Model: tiny, VAE hash: a6b9ba382a, Denoising"),
    ],
)
def test_a_vae_is_told_as_a1111_tells_it(params: dict[str, Any], wanted: str) -> None:
    vae = ("soft.safetensors", "a6b9ba382a")
    assert wanted in infotext(
        Params(**params), prompt="", negative_prompt="", seed=1, subseed=1, model="tiny", vae=vae
    )


def test_what_made_a_picture_is_told_only_if_wanted() -> None:
    quiet = Params(add_model_name_to_info=False, add_model_hash_to_info=False, add_version_to_infotext=False)
    assert text(quiet, model_hash="6ce0161689").endswith("Size: 512x512, Denoising strength: 0.75, RNG: CPU")


@pytest.mark.parametrize(
    ("fill", "wanted"),
    [
        (0, "Masked content: fill, VAE Encoder: TAESD, Version"),
        (1, "padding: 0, VAE Encoder: TAESD, Version"),
        (2, "padding: 0, VAE Encoder: TAESD, Masked content: latent noise, Version"),
    ],
)
def test_what_encodes_is_told_before_what_is_made_of_the_latent(fill: int, wanted: str) -> None:
    params = Params(inpainting_fill=fill, sd_vae_encode_method="TAESD")
    assert wanted in text(params, masked=True)
    assert "VAE Encoder" not in text(Params(txt2img=True, sd_vae_encode_method="TAESD"))


def test_merged_tokens_are_told_where_a1111_tells_them() -> None:
    assert "0.75, Token merging ratio: 0.5, RNG: CPU" in text(Params(token_merging_ratio=0.5))
    hires = {"txt2img": True, "enable_hr": True, "token_merging_ratio": 0.5}
    assert "Token merging ratio: 0.5, Token merging ratio hr: 0.5, RNG" in text(Params(**hires))
    assert "ratio: 0.5, Token merging ratio hr: 0.2," in text(Params(**hires, token_merging_ratio_hr=0.2))
    assert "merging" not in text(Params())


def test_hashes_of_loras_stand_where_a1111_has_them() -> None:
    written = infotext(
        Params(),
        prompt="a cat <lora:ink:1> <lora:a, b: c:1>",
        negative_prompt="",
        seed=1,
        subseed=2,
        model="v1-5",
        has_mask=True,
        masked=True,
        lora_hashes={"ink": "0123456789ab", "a, b": "ba9876543210"},
        account={"Noise multiplier": 0.9},
    )
    line = written.split("\n")[-1]
    assert 'Masked content: fill, Lora hashes: "ink: 0123456789ab, a b: ba9876543210", Noise multi' in line
    assert "Lora hashes" not in text(Params())


def test_without_prompts_there_is_one_line() -> None:
    assert text(Params(), prompt="").startswith("Steps: 20, Sampler: Euler, Schedule type: Automatic, ")


def test_automatic_gives_way_to_the_samplers_own_schedule_only_where_it_has_one() -> None:
    assert pairs(Params(sampler_name="DPM++ 2M"))["Schedule type"] == "Karras"
    assert pairs(Params(sampler_name="DPM++ 2M", scheduler="Exponential"))["Schedule type"] == "Exponential"
    assert pairs(Params(sampler_name="Euler"))["Schedule type"] == "Automatic"
    assert pairs(Params(sampler_name="Euler", scheduler="Uniform"))["Schedule type"] == "Uniform"


def test_a_mask_is_described_only_where_one_was_in_force() -> None:
    params = Params(inpainting_mask_invert=1, inpaint_full_res_padding=32, inpainting_fill=2)
    assert {name: value for name, value in pairs(params, masked=True).items() if "ask" in name} == {
        "Mask mode": "Inpaint not masked",
        "Mask blur": "4",
        "Masked area padding": "32",
        "Masked content": "latent noise",
    }
    assert pairs(params, masked=True)["Inpaint area"] == "Only masked"
    assert "ask" not in "".join(pairs(params))
    whole = pairs(Params(inpaint_full_res=False, inpainting_fill=1, mask_blur_x=1.5), masked=True)
    assert not {"Inpaint area", "Masked area padding", "Masked content", "Mask blur"} & whole.keys()


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (Params(subseed_strength=0.25), {"Variation seed": "9", "Variation seed strength": "0.25"}),
        (Params(seed_resize_from_w=512, seed_resize_from_h=768), {"Seed resize from": "512x768"}),
        (Params(clip_skip=2, noise_source="nv"), {"Clip skip": "2", "RNG": "NV"}),
        (Params(sampler_name="Euler a", eta_noise_seed_delta=31337), {"ENSD": "31337"}),
        (Params(sampler_name="Euler a", eta_noise_seed_delta=31337, eta=0), {}),
        (Params(eta_noise_seed_delta=31337), {}),
        (Params(image_cfg_scale=1.2), {"Image CFG scale": "1.2"}),
        (Params(distilled_cfg_scale=2.5), {"Distilled CFG Scale": "2.5"}),
    ],
)
def test_what_differs_from_the_default_is_written_and_nothing_else(
    params: Params, expected: dict[str, str]
) -> None:
    plain, found = pairs(Params(sampler_name=params.sampler_name)), pairs(params)
    assert {name: value for name, value in found.items() if plain.get(name) != value} == expected


@pytest.mark.parametrize("name", ["plain", "a, b", "c: d", 'quo"te, d', "line\nbreak", "umlaut ö, x"])
def test_a_value_that_would_break_the_line_is_quoted(name: str) -> None:
    assert pairs(Params(), model=name)["Model"] == name
    quoted = json.dumps(name, ensure_ascii=False) if name != "plain" else name
    assert f", Model: {quoted}, " in text(Params(), model=name)


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("prompt", ["plain", "naïve", "日本語 🐈", "x" * 20_000])
def test_a_file_carries_its_text(output_format: str, prompt: str) -> None:
    written = text(Params(), prompt=prompt, negative_prompt="no")
    data = encode_picture(PICTURE, output_format, written)
    assert read_infotext(data) == written
    image = Image.open(io.BytesIO(data))
    assert image.format == output_format.upper()
    if output_format != "jpeg":
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), np.asarray(PICTURE))


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
def test_a_lower_quality_makes_a_smaller_file(output_format: str) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    sizes = [len(encode_picture(noise, output_format, "", quality)) for quality in (20, 80, None)]
    assert sizes == sorted(set(sizes))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=300))
def test_any_text_survives_in_a_png(written: str) -> None:
    assert read_infotext(encode_picture(PICTURE, "png", written)) == written


#: what A1111 keeps of a prompt: its lines, without the space around them
LINES = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=40)
    .map(str.strip)
    .filter(lambda line: not line.startswith("Negative prompt:")),
    max_size=4,
).map(lambda lines: "\n".join(lines).strip("\n"))


@given(prompt=LINES, negative=LINES, model=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_what_is_written_is_read_back_as_a1111_reads_it(prompt: str, negative: str, model: str) -> None:
    params = Params(sampler_name="DPM++ 2M", scheduler="Exponential", subseed_strength=0.5, clip_skip=2)
    read = read_pairs(text(params, prompt=prompt, negative_prompt=negative, model=f"x{model.strip()}x"))
    assert (read["Prompt"], read["Negative prompt"]) == (prompt, negative)
    assert read["Model"] == f"x{model.strip()}x"
    assert (read["Sampler"], read["Schedule type"]) == ("DPM++ 2M", "Exponential")
    assert (read["Seed"], read["Variation seed"], read["Size-1"], read["Clip skip"]) == ("7", "9", "512", "2")


@pytest.mark.parametrize(
    ("written", "prompt", "negative"),
    [
        ("a cat, Negative prompt: x", "a cat, Negative prompt: x", ""),
        ("a cat\n  Negative prompt: x\ny", "a cat", "x\ny"),
        ("Negative prompt: x", "", "x"),
        ("a\nNegative prompt: x\nNegative prompt: y", "a", "x\ny"),
        ("Steps: 1, Size: 2\nNegative prompt: x: y", "Steps: 1, Size: 2", "x: y"),
    ],
)
def test_a_negative_prompt_begins_with_its_line(written: str, prompt: str, negative: str) -> None:
    read = read_pairs(written + "\nSteps: 20, Sampler: Euler, Seed: 5")
    assert (read["Prompt"], read["Negative prompt"], read["Seed"]) == (prompt, negative, "5")


def test_a_jpeg_cuts_prompts_that_do_not_fit_and_keeps_the_parameters() -> None:
    written = text(Params(), prompt="🐈" * 20_000, negative_prompt="🐕" * 20_000)
    read = read_infotext(encode_picture(PICTURE, "jpeg", written))
    assert read is not None
    assert read.startswith("🐈🐈")
    assert read.splitlines()[-1] == written.splitlines()[-1]


@pytest.mark.parametrize(
    ("prompt", "hires_prompt"), [(20_000, 20_000), (10, 20_000), (0, 40_000), (10, 40_000)]
)
def test_a_jpeg_has_what_fits_of_a_long_line_of_parameters(prompt: int, hires_prompt: int) -> None:
    line = f"Steps: 20, Hires prompt: {'𝄞b' * (hires_prompt // 2)}"
    read = read_infotext(encode_picture(PICTURE, "jpeg", f"{'a' * prompt}\n{line}".strip()))
    assert read is not None
    assert line.startswith(read.rpartition("\n")[2].removesuffix("…"))
    assert len(read.encode("utf-16-be")) > 60_000


def test_a_png_has_the_text_before_the_pixels() -> None:
    for written, kind in (("plain", b"tEXt"), ("日本", b"iTXt")):
        data = encode_picture(PICTURE, "png", written)
        kinds, at = [], 8
        while at < len(data):
            length, name = struct.unpack(">I4s", data[at : at + 8])
            kinds.append(name)
            at += 12 + length
        assert kinds.index(kind) < kinds.index(b"IDAT")
        assert b"parameters\0" in data


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
def test_exif_holds_the_comment_as_a1111_writes_it(output_format: str) -> None:
    data = encode_picture(PICTURE, output_format, "Steps: 1")
    assert b"UNICODE\0" + "Steps: 1".encode("utf-16-be") in data


def test_a_picture_without_a_text_has_none() -> None:
    file = io.BytesIO()
    PICTURE.save(file, "PNG")
    assert read_infotext(file.getvalue()) is None
    file = io.BytesIO()
    PICTURE.save(file, "JPEG")
    assert read_infotext(file.getvalue()) is None
    assert read_infotext(b"nothing") is None


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_broken_exif_block_carries_no_text() -> None:
    data = encode_picture(PICTURE, "jpeg", "Steps: 1")
    at = data.index(b"Exif\0\0") + 6
    for broken in (
        data[:at] + b"\xff" * 8 + data[at + 8 :],
        data[:at] + b"II*\0\xff\xff\xff\xff" + data[at + 8 :],
    ):
        assert read_infotext(broken) is None
