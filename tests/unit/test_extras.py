"""Extras: pictures that are enlarged and not rendered, as one image of a job."""

import io
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from img2img_shared.errors import Refused
from img2img_shared.extras_report import extras_infotext, networks_of
from img2img_shared.job import Input, Job
from img2img_shared.params import Params
from img2img_shared.picture_texts import read_texts
from img2img_shared.roles import check_roles
from img2img_worker.farm.recipe import recipe
from tests.unit.test_recipe import IMAGE, SERVED


def extras(**changes: Any) -> Params:
    return Params(extras=True, seed=1, subseed=2, **changes)


def sent(picture: Image.Image, text: str = "", note: str = "") -> bytes:
    data, chunks = io.BytesIO(), PngImagePlugin.PngInfo()
    if text:
        chunks.add_text("parameters", text)
    if note:
        chunks.add_text("Comment", note)
    picture.save(data, "PNG", pnginfo=chunks)
    return data.getvalue()


def made(
    picture: Image.Image, text: str = "", note: str = "", **changes: Any
) -> tuple[Image.Image, dict[str, str]]:
    """The image of a job, and its file's texts."""
    job = Job(id="0" * 16, model="tiny", params=extras(**changes), n_inputs=1)
    item = Input(pictures={"image": IMAGE})
    steps = recipe(job, item, 0, {"image": sent(picture, text, note)}, SERVED)
    with pytest.raises(StopIteration) as end:
        next(steps)
    (data,) = end.value.value.values()
    return Image.open(io.BytesIO(data)), read_texts(data)


GREEN = Image.new("RGB", (101, 77), "green")


@pytest.mark.parametrize(
    ("changes", "size", "account"),
    [
        ({}, (101, 77), ""),
        ({"upscaling_resize_w": 64, "upscaling_resize_h": 64}, (101, 77), ""),  # None leaves all as it is
        (
            {"upscaler_1": "Lanczos"},
            (200, 152),
            "Postprocess upscale by: 2.0, Postprocess upscaler: Lanczos",
        ),
        (
            {"upscaler_1": "Nearest", "upscaling_resize": 0.5},
            (48, 32),
            "Postprocess upscale by: 0.5, Postprocess upscaler: Nearest",
        ),
        (
            {"upscaler_1": "nearest", "upscaling_resize_w": 160, "upscaling_resize_h": 160},
            (160, 160),
            "Postprocess upscale to: 160x160, Postprocess crop to: 160x160, Postprocess upscaler: Nearest",
        ),
        (
            {
                "upscaler_1": "Lanczos",
                "upscaling_resize_w": 160,
                "upscaling_resize_h": 160,
                "upscaling_crop": False,
            },
            (208, 152),
            "Postprocess upscale to: 160x160, Postprocess upscaler: Lanczos",
        ),
        (
            {"upscaler_1": "Lanczos", "upscaler_2": "Nearest", "extras_upscaler_2_visibility": 0.5},
            (200, 152),
            "Postprocess upscale by: 2.0, Postprocess upscaler: Lanczos, Postprocess upscaler 2: Nearest",
        ),
    ],
)
def test_sizes_and_the_account_of_them_are_a1111s(changes: Any, size: tuple[int, int], account: str) -> None:
    picture, texts = made(GREEN, **changes)
    assert (picture.size, picture.mode) == (size, "RGB")
    assert picture.getpixel((size[0] // 2, size[1] // 2)) == (0, 128, 0)
    assert texts.get("postprocessing", "") == account
    assert extras_infotext(extras(**changes)) == account


def test_a_pictures_texts_stay_with_it() -> None:
    _, texts = made(GREEN, "a cat\nSteps: 3", "by Ann", upscaler_1="Lanczos")
    assert (texts["parameters"], texts["Comment"]) == ("a cat\nSteps: 3", "by Ann")


def test_what_is_transparent_stays_so() -> None:
    picture, _ = made(Image.new("RGBA", (16, 16), (10, 20, 30, 128)), upscaler_1="Lanczos")
    assert picture.getpixel((15, 15)) == (9, 19, 29, 128)  # rounded as Pillow does
    picture, _ = made(Image.new("RGBA", (16, 16), (10, 20, 30, 1)), upscaler_1="Nearest")
    assert picture.getpixel((15, 15)) == (10, 20, 30, 1)
    grey, _ = made(Image.new("L", (16, 16), 70), upscaler_1="Lanczos")
    assert grey.getpixel((15, 15)) == (70, 70, 70)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"extras": True, "prompt": "a cat"}, "prompt"),
        ({"extras": True, "denoising_strength": 0.5}, "denoising_strength"),
        ({"extras": True, "images_per_input": 2}, "images_per_input"),
        ({"upscaler_1": "Lanczos"}, "upscaler_1"),
        ({"extras": True, "upscaling_resize_w": 64}, "upscaling_resize_w, upscaling_resize_h"),
        ({"extras": True, "upscaler_1": ""}, "upscaler_1"),
    ],
)
def test_what_would_change_nothing_is_refused_by_name(changes: Any, field: str) -> None:
    with pytest.raises((Refused, ValueError), match=field):
        Params(**changes)


def test_a_result_without_a_pixel_or_of_too_many_is_refused() -> None:
    with pytest.raises(Refused, match="1 × 0 pixels"):
        made(GREEN, upscaler_1="Nearest", upscaling_resize=0.01)
    with pytest.raises(Refused, match="42981 × 32768 pixels"):
        made(GREEN, upscaler_1="Nearest", upscaling_resize_w=64, upscaling_resize_h=32768)


def test_extras_look_at_a_picture_and_no_mask() -> None:
    check_roles(["image"], extras())
    for roles, field in ((["image", "mask"], "mask"), ([], "image")):
        with pytest.raises(Refused, match=field):
            check_roles(roles, extras())


def test_only_upscalers_that_are_used_need_their_files() -> None:
    assert networks_of(extras(upscaler_1="4x", upscaler_2="2x")) == ["4x"]
    two = extras(upscaler_1="4x", upscaler_2="2x", extras_upscaler_2_visibility=0.1)
    assert networks_of(two) == ["4x", "2x"]
    assert networks_of(extras(upscaler_2="2x", extras_upscaler_2_visibility=0.1)) == []
