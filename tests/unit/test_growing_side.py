"""Pictures that grow side after side from noise that is like them."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from img2img_shared.errors import Refused
from img2img_shared.job import Input, Job
from img2img_shared.params import Params
from img2img_shared.picture_texts import read_texts
from img2img_worker.farm.recipe import recipe
from img2img_worker.pictures.growing_side import GrowingSide, growth
from img2img_worker.pictures.matched_noise import matched_noise
from img2img_worker.pictures.picture_file import encode_picture
from tests.unit.test_recipe import SERVED

IMAGE = f"inputs/{'0' * 64}"
#: three pixels of a column at its edge, in its middle and beside what is seen, and the mean, as A1111 1.10.1
#: computes them (`get_matched_noise`)
OF_A1111: dict[tuple[float, float], tuple[list[list[float]], float]] = {
    (1.0, 0.05): (
        [[0.710611, 0.451578, 0.356337], [0.735765, 0.418998, 0.352777], [0.472076, 0.124758, 0.101974]],
        0.356117,
    ),
    (0.2, 1.0): (
        [[0.498813, 0.097756, 0.105294], [0.601499, 0.584932, 0.273529], [0.685617, 0.002509, 0.131415]],
        0.356117,
    ),
}


def params(**values: object) -> Params:
    given = {"width": 64, "height": 64, "outpaint": "right", "outpaint_pixels": 16, "outpaint_mask_blur": 4}
    method = {"outpaint_method": "noise", "seed": 5, "subseed": 6}
    return Params.model_validate({**given, **method, **values})


@pytest.mark.parametrize(("exponent", "variation"), OF_A1111)
def test_noise_is_a1111s(exponent: float, variation: float) -> None:
    picture = np.random.default_rng(3).random((16, 24, 3)) * np.array([1, 0.7, 0.4])
    hidden = np.zeros((16, 24), bool)
    hidden[:, :10] = True
    picture[hidden] = 0
    noise = matched_noise(picture, hidden, exponent, variation)
    pixels, mean = OF_A1111[exponent, variation]
    np.testing.assert_allclose(noise[[0, 5, 15], [0, 9, 4]], pixels, atol=1e-6)
    assert noise[:, :10].mean() == pytest.approx(mean, abs=1e-6)
    np.testing.assert_array_equal(noise[:, 10:], picture[:, 10:])


def test_a_black_picture_has_noise_too() -> None:
    hidden = np.zeros((8, 8), bool)
    hidden[:4] = True
    assert not matched_noise(np.zeros((8, 8, 3)), hidden, 1, 0.05).any()


def test_each_side_grows_by_its_share_of_what_makes_a_multiple_of_64() -> None:
    assert list(growth((100, 64), params(outpaint="left, right, down"))) == [
        ("left", 46),
        ("right", 46),
        ("down", 64),
    ]


@pytest.mark.parametrize(
    ("side", "white"), [("left", (0, 20)), ("right", (44, 64)), ("up", (0, 20)), ("down", (44, 64))]
)
def test_the_tile_reaches_into_the_picture_by_its_masks_blur(side: str, white: tuple[int, int]) -> None:
    size = (48, 64) if side in ("left", "right") else (64, 48)
    growing = GrowingSide(Image.new("RGB", size, "blue"), side, 16, params())
    shown = np.asarray(growing.tile.mask) > 0
    lines = shown.all(axis=0) if side in ("left", "right") else shown.all(axis=1)
    begin, end = np.flatnonzero(lines)[[0, -1]]
    assert (begin, end + 1) in (white, (white[0] + 1, white[1])), "Pillow's rectangles have their last pixel"
    assert growing.finished(Image.new("RGB", (64, 64), "red")).size == (64, 64)


def test_a_blur_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(Refused, match="outpaint_mask_blur"):
        GrowingSide(Image.new("RGB", (48, 64)), "left", 16, params(outpaint_mask_blur=64))


@pytest.mark.parametrize(
    "values",
    [
        {"inpainting_fill": 2},
        {"outpaint_method": "tiles", "outpaint_noise_exponent": 2},
        {"outpaint": ""},
    ],
)
def test_what_noise_has_no_use_for_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(Refused):
        params(**values)


def test_sides_are_rendered_one_after_the_other_with_one_seed() -> None:
    job = Job(id="0" * 16, model="tiny", params=params(outpaint="left, up", width=96), n_inputs=1)
    data = encode_picture(Image.new("RGB", (64, 64), "blue"), "png")
    steps: Any = recipe(job, Input(pictures={"image": IMAGE}), 0, {"image": data}, SERVED)
    (first,) = next(steps)
    assert (first.seed, first.params.width, first.params.height) == (5, 96, 64)
    (second,) = steps.send([np.full((64, 96, 3), 9, np.uint8)])
    assert (second.seed, second.params.width, second.params.height) == (5, 128, 64)
    assert second.params.mask_blur_x == second.params.mask_blur_y == 16
    with pytest.raises(StopIteration) as end:
        steps.send([np.full((64, 128, 3), 9, np.uint8)])
    (file,) = end.value.value.values()
    assert "Size: 96x64" in read_texts(file)["parameters"], "the first one's"
