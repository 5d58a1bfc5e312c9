"""The texts in pictures, and infotexts: written by the worker's encoder, read by the gateway."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from img2img_gateway.pictures import decode_base64, decode_picture, is_reference
from img2img_gateway.sdapi.option_table import defaults
from img2img_gateway.sdapi.read_infotext import read_parameters, request_fields
from img2img_gateway.sdapi.styles import Style, apply_styles, read_styles
from img2img_shared.errors import Refused
from img2img_shared.infotext_parser import read_pairs, split_pairs
from img2img_shared.params import Params
from img2img_shared.picture_texts import read_texts, without_texts
from img2img_worker.pictures.infotext import infotext
from img2img_worker.pictures.picture_file import encode_picture
from tests.plain_png import plain_png

IMAGE = Image.new("RGB", (16, 16))


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("prompt", ["a cat", "a “café”\nof two lines, with: colons", "猫と雨", "🦊"])
def test_what_the_worker_writes_is_read(output_format: str, prompt: str) -> None:
    text = infotext(
        Params(seed=1, subseed=1), prompt=prompt, negative_prompt="fog", seed=5, subseed=0, model="m"
    )
    assert read_texts(encode_picture(IMAGE, output_format, text)) == {"parameters": text}


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_a_picture_can_be_had_without_its_texts(output_format: str) -> None:
    picture = Image.effect_noise((40, 24), 90).convert("RGB")
    with_text = encode_picture(picture, output_format, "a cat\nSteps: 3")
    without = without_texts(with_text)
    assert (read_texts(with_text), read_texts(without)) == ({"parameters": "a cat\nSteps: 3"}, {})
    assert b"Steps" not in without
    before, after = (Image.open(io.BytesIO(each)) for each in (with_text, without))
    assert (after.format, after.tobytes()) == (before.format, before.tobytes())
    assert without_texts(without) == without


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt"])
def test_every_kind_of_a_pngs_text_is_read(kind: str) -> None:
    chunks = PngImagePlugin.PngInfo()
    if kind == "iTXt":
        chunks.add_itxt("note", "grün", "de", "Notiz", zip=True)
    else:
        chunks.add_text("note", "grün", zip=kind == "zTXt")
    file = io.BytesIO()
    IMAGE.save(file, "PNG", pnginfo=chunks)
    assert read_texts(file.getvalue()) == {"note": "grün"}


def _saved(output_format: str, **how: Any) -> bytes:
    file = io.BytesIO()
    IMAGE.save(file, output_format, **how)
    return file.getvalue()


@pytest.mark.parametrize("output_format", ["JPEG", "GIF"])
def test_a_files_comment_is_its_infotext_as_in_a1111(output_format: str) -> None:
    text = "a cat\nSteps: 3, " + "x" * 300  # in two blocks of a GIF
    assert read_texts(_saved(output_format, comment=text.encode())) == {"comment": text, "parameters": text}
    assert read_texts(_saved(output_format)) == {}


def test_exifs_comment_goes_before_a_files_and_a_pngs_text() -> None:
    with Image.open(io.BytesIO(encode_picture(IMAGE, "jpeg", "from EXIF"))) as image:
        exif = image.info["exif"]
    found = read_texts(_saved("JPEG", comment=b"from the file", exif=exif))
    assert found == {"comment": "from the file", "parameters": "from EXIF"}
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", "from the text")
    assert read_texts(_saved("PNG", pnginfo=chunks)) == {"parameters": "from the text"}
    assert read_texts(_saved("PNG", pnginfo=chunks, exif=exif)) == {"parameters": "from EXIF"}


@given(
    st.binary(max_size=200),
    st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1", b"RIFF0000WEBPEXIF", b"GIF89a0000\0\0\0!\xfe"]
    ),
)
def test_broken_files_carry_no_text(data: bytes, head: bytes) -> None:
    assert isinstance(read_texts(head + data), dict)


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_a_cut_file_carries_no_text_or_its_own(cut: int) -> None:
    data = encode_picture(IMAGE, "jpeg", "a text that is long enough to be cut")
    assert isinstance(read_texts(data[:cut]), dict)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_plain_png_is_one(grey: int) -> None:
    with Image.open(io.BytesIO(plain_png(grey))) as image:
        image.load()
    assert (image.size, image.mode, image.getextrema()) == ((64, 64), "L", (grey, grey))


def test_base64_may_be_bare_broken_into_lines_or_a_data_url() -> None:
    text = base64.b64encode(b"picture").decode()
    for form in (text, text[:4] + "\n" + text[4:], "data:image/png;base64," + text):
        assert decode_base64(form, "image", 100) == b"picture"


@pytest.mark.parametrize(
    "text", ["", "data:image/png;base64,", "!!!", "QQ", "https://x.org/a.png", "QUFB" * 400]
)
def test_what_is_no_picture_is_refused(text: str) -> None:
    with pytest.raises(Refused) as caught:
        decode_base64(text, "mask", 100)
    assert caught.value.field == "mask"


def test_a_reference_is_never_base64() -> None:
    key = "inputs/" + "a" * 64
    assert is_reference(key)
    with pytest.raises(Refused):
        decode_base64(key, "image", 1000)


def test_an_infotext_is_read_as_a1111_reads_it() -> None:
    pairs = read_pairs(
        "a cat, <lora:x:1>\nin rain\nNegative prompt: fog,\nblur\n"
        'Steps: 20, Sampler: DPM++ 2M, Size: 512x768, Hashes: "a: 1, b: 2", Version: v1'
    )
    assert pairs["Prompt"] == "a cat, <lora:x:1>\nin rain"
    assert pairs["Negative prompt"] == "fog,\nblur"
    assert (pairs["Size-1"], pairs["Size-2"], pairs["Hashes"]) == ("512", "768", "a: 1, b: 2")


def test_a_text_without_a_line_of_pairs_is_all_prompt() -> None:
    assert read_pairs("just words, one: two") == {"Prompt": "just words, one: two", "Negative prompt": ""}


TEXT = (
    "a fox\nNegative prompt: fog\nSteps: 5, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4.5, "
    "Seed: 99, Size: 128x64, Model hash: 0123456789, Model: other, Seed resize from: 96x72, "
    "Denoising strength: 0.9, "
    "Clip skip: 2, ENSD: 31337, RNG: NV, Emphasis: Original"
)


def fields_of(text: str, *, txt2img: bool = False, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return request_fields(text, {**defaults(), **options}, txt2img=txt2img)


def test_an_infotext_fills_of_img2img_what_it_fills_in_a1111() -> None:
    fields, options = fields_of(TEXT)
    assert fields == {
        "steps": 5,
        "sampler_name": "DPM++ 2M",
        "scheduler": "Karras",
        "seed": 99,
        "seed_resize_from_h": 96,
        "seed_resize_from_w": 72,
    }
    assert options == {
        "CLIP_stop_at_last_layers": 2,
        "eta_noise_seed_delta": 31337,
        "randn_source": "NV",
    }


def test_an_infotext_fills_more_of_txt2img() -> None:
    fields, _ = fields_of(TEXT + ", Hires upscale: 2, Hires upscaler: Latent", txt2img=True)
    assert (fields["cfg_scale"], fields["width"], fields["height"]) == (4.5, 128, 64)
    assert (fields["denoising_strength"], fields["enable_hr"], fields["hr_scale"]) == (0.9, True, 2)


def test_an_infotext_without_a_sampler_means_a1111s_first_one() -> None:
    assert fields_of("just words")[0]["sampler_name"] == "DPM++ 2M"


def test_what_is_no_number_in_an_infotext_is_left_to_be_refused() -> None:
    fields, _ = fields_of("x\nSteps: many, CFG scale: 7.5, Seed: 3")
    assert fields["steps"] == "many"
    with pytest.raises(Refused, match="Clip skip"):
        fields_of("x\nSteps: 3, CFG scale: 7.5, Seed: 3, Clip skip: few")


def test_negative_prompt_begins_at_a_line_that_says_so() -> None:
    pairs = read_pairs(
        'a book called "Negative prompt: a study"\nNegative prompt: dog\nmore\n'
        "Steps: 2, Sampler: Euler, Seed: 5"
    )
    assert pairs["Prompt"] == 'a book called "Negative prompt: a study"'
    assert pairs["Negative prompt"] == "dog\nmore"


def test_what_a_text_leaves_out_is_told_as_a1111_tells_it() -> None:
    told = read_parameters("just words", {}, "Apply if any")
    assert (told["Prompt"], told["Clip skip"], told["RNG"], told["Masked area padding"]) == (
        "just words",
        "1",
        "GPU",
        32,
    )
    assert read_parameters("", {}, "Ignore")["Prompt"] == ""


STYLES = {
    "oil": Style(name="oil", prompt="{prompt}, oil painting", negative_prompt="photo, flat"),
    "night": Style(name="night", prompt="night", negative_prompt=""),
    "none": Style(name="none", prompt="", negative_prompt=""),
}
BEHIND = "Steps: 4, Sampler: Euler a, Seed: 9, CFG scale: 5"


@pytest.mark.parametrize(
    ("text", "inferred"),
    [
        (", Version: v1.5.0", {"Old prompt editing timelines": True, "Downcast alphas_cumprod": True}),
        (", Version: 1.6.0", {"Downcast alphas_cumprod": True}),
        (
            ", Version: v1.6.0-RC-4-gabc",
            {"Old prompt editing timelines": True, "Downcast alphas_cumprod": True},
        ),
        (", Version: v1.7.0-224-gabc", {"Downcast alphas_cumprod": True}),
        (", Version: v1.7.0-225-gabc, Refiner: x [ab]", {"Refiner switch by sampling steps": True}),
        (", Version: v1.8.0, Refiner: x [ab]", {}),
        (", Version: f2.0.1v1.10.1-previous-22-g1", {}),
        (", Version: img2img-farm 0.1.0", {}),
        (", Hypernet: h", {"Prompt": "a [cat:dog:5]<hypernet:h:1.0>"}),
        (", Hypernet: h, Hypernet strength: 0.4", {"Prompt": "a [cat:dog:5]<hypernet:h:0.4>"}),
        (
            ", Size: 1024x768, First pass size: 512x384",
            {"Size-1": 512, "Size-2": 384, "Hires resize-1": 1024, "Hires resize-2": 768},
        ),
        (
            ", Size: 512x640, First pass size: 0x0",
            {"Size-1": 512, "Size-2": 576, "Hires resize-1": 512, "Hires resize-2": 640},
        ),
        (", First pass size-1: 3", {}),
        (", FP8 weight: Enable", {"Cache FP16 weight for LoRA": False}),
    ],
)
def test_what_older_versions_wrote_is_read_as_a1111_reads_it(text: str, inferred: dict[str, Any]) -> None:
    plain = f"a [cat:dog:5]\n{BEHIND}"
    assert of_versions(plain + text) == of_versions(plain) | inferred


def of_versions(text: str) -> dict[str, Any]:
    told = read_parameters(text, {}, "Apply")
    names = ["Prompt", "Size-1", "Size-2", "Hires resize-1", "Hires resize-2", "Old prompt editing timelines"]
    names += ["Pad conds v0", "Downcast alphas_cumprod", "Refiner switch by sampling steps"]
    return {name: told[name] for name in (*names, "Cache FP16 weight for LoRA") if name in told}


def test_ddim_once_padded_prompts_otherwise() -> None:
    text = "a cat\nSteps: 4, Sampler: DDIM, Seed: 9, Version: v1.5.2"
    assert of_versions(text)["Pad conds v0"] is True
    assert fields_of(text)[1] == {"pad_cond_uncond_v0": True, "use_downcasted_alpha_bar": True}


@pytest.mark.parametrize(
    ("prompt", "emphasised"), [("(a) cat", True), ("[a] cat", True), (r"\(a\) cat", False), ("a cat", False)]
)
def test_a_prompt_with_emphasis_had_the_original_kind(prompt: str, emphasised: bool) -> None:
    assert read_parameters(f"{prompt}\n{BEHIND}", {}, "Ignore").get("Emphasis") == (
        "Original" if emphasised else None
    )


def test_an_infotext_puts_back_what_the_caller_has_chosen_otherwise() -> None:
    chosen: dict[str, Any] = {"CLIP_stop_at_last_layers": 2, "sigma_max": 9.0, "emphasis": "None"}
    chosen |= {"randn_source": "NV"}
    _, options = fields_of(f"a (cat)\n{BEHIND}", **chosen)
    assert options == {"CLIP_stop_at_last_layers": 1, "sigma_max": 0, "emphasis": "Original"}
    assert fields_of(f"a cat\n{BEHIND}, Clip skip: 2", **chosen)[1] == {"sigma_max": 0}


def test_an_infotext_chooses_what_a_second_pass_has_of_its_own() -> None:
    text = f"a cat\n{BEHIND}, Denoising strength: 0.5, Hires upscale: 2, Hires sampler: Heun"
    text += ", Hires schedule type: Karras, Hires checkpoint: other [ab], Hires refiner: both passes"
    fields, options = fields_of(text, txt2img=True)
    assert fields["hr_sampler_name"] == "Heun"
    assert (fields["hr_scheduler"], fields["hr_checkpoint_name"]) == ("Karras", "other [ab]")
    assert options == {"hires_fix_refiner_pass": "both passes"}


@pytest.mark.parametrize(
    ("mode", "names", "prompt", "negative"),
    [
        ("Apply if any", ["oil", "night"], "a cat", "fog"),
        ("Discard", None, "a cat", "fog"),
        ("Ignore", None, "a cat, oil painting, night", "fog, photo, flat"),
    ],
)
def test_texts_of_styles_are_styles_again(mode: str, names: Any, prompt: str, negative: str) -> None:
    text = f"a cat, oil painting, night\nNegative prompt: fog, photo, flat\n{BEHIND}"
    told = read_parameters(text, STYLES, mode)
    assert (told.get("Styles array"), told["Prompt"], told["Negative prompt"]) == (names, prompt, negative)
    assert read_parameters(f"a cat\n{BEHIND}", STYLES, "Apply")["Styles array"] == []
    if names:
        assert "\n".join(apply_styles(prompt, negative, names, STYLES)) in text.replace(
            "Negative prompt: ", ""
        )


@pytest.mark.parametrize(
    ("hires", "told"),
    [
        ("a cat, night", ("a cat", ["night"], "")),
        ("a dog, night", ("a cat", ["night"], "a dog")),
        ("a dog", ("a cat, night", None, "a dog")),  # which has none of them
    ],
)
def test_a_hires_fix_has_the_same_styles_or_none_are_found(hires: str, told: tuple[Any, ...]) -> None:
    read = read_parameters(f'a cat, night\n{BEHIND}, Hires prompt: "{hires}"', STYLES, "Apply if any")
    assert (read["Prompt"], read.get("Styles array"), read["Hires prompt"]) == told


def test_styles_go_to_their_place_or_behind() -> None:
    known = {
        "oil": Style(name="oil", prompt="oil of {prompt}, thick", negative_prompt=""),
        "big": Style(name="big", prompt="huge", negative_prompt="tiny"),
    }
    assert apply_styles("a cat", "", ["oil", "big"], known) == ("oil of a cat, thick, huge", "tiny")
    with pytest.raises(Refused, match="oil, big"):
        apply_styles("a cat", "", ["none"], known)


#: as A1111 has it: its time grows with the square of the line
A1111_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


@given(st.text(st.sampled_from('aBé1 \t-/:,"\\.'), max_size=30))
def test_pairs_are_what_a1111s_pattern_finds(line: str) -> None:
    assert split_pairs(line) == A1111_PAIR.findall(line)


@pytest.mark.parametrize("text", ["a", "a ", ",", "a:", "ab: c,", 'ab: "', "\n", 'ab: "\\', " ", 'ab: "x,'])
def test_a_text_of_a_megabyte_is_read_at_once(text: str) -> None:
    assert isinstance(read_pairs("Steps: 1, " + text * (2**20 // len(text))), dict)


KINDS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_pillow_writes_counts_as_a_picture(kind: str) -> None:
    file = io.BytesIO()
    IMAGE.save(file, kind)
    assert decode_picture(base64.b64encode(file.getvalue()).decode(), "image", 10_000) == file.getvalue()


@pytest.mark.parametrize("data", [b"hello world", b"<svg/>", b"\0\0\0\x18ftypmp42", b"%PDF-1.7"])
def test_what_is_no_picture_is_refused_by_its_field(data: bytes) -> None:
    with pytest.raises(Refused, match=r"image is data of \d+ bytes: it is no picture"):
        decode_picture(base64.b64encode(data).decode(), "image", 10_000)


@pytest.mark.parametrize(
    ("file", "styles"),
    [
        ('name,prompt,negative_prompt\nOil,"{prompt}, oil",flat\n', {"Oil": ("{prompt}, oil", "flat")}),
        ("name, prompt\n  Oil, thick\n", {"Oil": ("thick", "")}),
        ("name,text\nOil,thick\n", {"Oil": ("thick", "")}),
        ("name,prompt\n# oils,\nOil,thick\n,nameless\n", {"Oil": ("thick", "")}),
        (
            "\ufeffname,prompt,negative_prompt\nOil,thick\nNight,,dim\n",
            {"Oil": ("thick", ""), "Night": ("", "dim")},
        ),
    ],
)
def test_styles_are_read_from_all_that_a1111_reads(
    file: str, styles: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "styles.csv"
    path.write_text(file, encoding="utf-8")
    found = read_styles(path)
    assert {name: (style.prompt, style.negative_prompt) for name, style in found.items()} == styles
