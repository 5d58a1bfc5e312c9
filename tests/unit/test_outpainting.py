"""Pictures that grow beyond their edges: which tiles are rendered, and how they become one picture."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from img2img_shared.errors import Refused
from img2img_shared.job import Input, Job
from img2img_shared.params import Params
from img2img_shared.picture_texts import read_texts
from img2img_shared.roles import check_roles
from img2img_worker.farm.recipe import recipe
from img2img_worker.farm.side_by_side import side_by_side
from img2img_worker.farm.tiles_recipe import MOST_TILES_OF_ONE, split_into_tiles
from img2img_worker.pictures.outpainting import GrowingPicture
from img2img_worker.pictures.picture_file import encode_picture
from tests.unit.test_recipe import SERVED
from tests.unit.test_sd_upscale import noise

IMAGE = f"inputs/{'0' * 64}"
BLUE = (32, 64, 96)
RED = (255, 0, 0)


def params(**values: object) -> Params:
    return Params.model_validate(
        {
            "width": 64,
            "height": 64,
            "outpaint": "right",
            "outpaint_pixels": 16,
            "outpaint_mask_blur": 4,
            "seed": 5,
            "subseed": 6,
            **values,
        }
    )


def test_sides_are_told_in_one_order_and_others_refused() -> None:
    assert params(outpaint="down,left").outpaint == "left, down"
    assert params(outpaint="down,left").outpaint_sides == ("left", "down")
    with pytest.raises(Refused, match="give some of left, right, up, down"):
        params(outpaint="left, over")
    with pytest.raises(Refused, match="it needs outpaint"):
        params(outpaint="")


@pytest.mark.parametrize("values", [{"txt2img": True}, {"soft_inpainting": True}])
def test_outpainting_needs_a_picture_and_has_a_mask_of_its_own(values: dict[str, bool]) -> None:
    with pytest.raises(Refused):
        params(**values)
    with pytest.raises(Refused, match="send none with outpaint"):
        check_roles({"image", "mask"}, params())


@pytest.mark.parametrize(
    ("sides", "size", "tiles"),
    [("right", (128, 64), 2), ("left", (128, 64), 2), ("left, right", (128, 64), 2), ("up", (64, 128), 2)],
)
def test_a_picture_grows_to_multiples_of_64_in_tiles(sides: str, size: tuple[int, int], tiles: int) -> None:
    growing = GrowingPicture(Image.new("RGB", (64, 64), BLUE), params(outpaint=sides))
    made = growing.tiles()
    assert len(made) == tiles
    finished = growing.finished([Image.new("RGB", (64, 64), RED)] * tiles)
    assert finished.size == size


def test_what_lies_within_the_picture_is_not_rendered() -> None:
    growing = GrowingPicture(Image.new("RGB", (192, 64), BLUE), params())
    assert len(growing.tiles()) == 2
    finished = np.asarray(growing.finished([Image.new("RGB", (64, 64), RED)] * 2))
    assert finished.shape == (64, 256, 3)
    assert (finished[:, :128] == BLUE).all()
    assert (finished[:, 192:] == RED).all()
    fading = finished[0, 128:192, 0].astype(int)
    assert (np.diff(fading) >= 0).all()
    assert 0 < np.count_nonzero((fading > BLUE[0]) & (fading < 255)) <= 16, "it fades over the overlap"


def test_the_mask_shows_more_than_is_repainted() -> None:
    first, last = GrowingPicture(Image.new("RGB", (64, 64), BLUE), params()).tiles()
    white = [np.flatnonzero(np.asarray(mask)[0]).tolist() for mask in (first.latent_mask, first.mask)]
    assert white == [list(range(31, 64)), list(range(25, 64))], "by half the blur, and by twice of it"
    assert last.latent_mask.getextrema() == (255, 255)


@pytest.mark.parametrize(
    ("values", "size", "named"),
    [
        ({"outpaint_pixels": 64}, (64, 64), "outpaint_pixels"),
        ({"outpaint_mask_blur": 64, "outpaint": "left, right"}, (32, 32), "outpaint_mask_blur"),
        ({"outpaint_pixels": 56}, (9_000, 64), "width, height"),
    ],
)
def test_tiles_that_cannot_be_are_refused(values: dict[str, int], size: tuple[int, int], named: str) -> None:
    with pytest.raises(Refused) as refused:
        GrowingPicture(Image.new("RGB", size, BLUE), params(**values))
    assert refused.value.field == named


def test_each_tile_has_the_next_seed_and_the_text_is_the_firsts() -> None:
    job = Job(id="0" * 16, model="tiny", params=params(outpaint="left, up"), n_inputs=1)
    item = Input(pictures={"image": IMAGE})
    data = encode_picture(Image.new("RGB", (64, 64), BLUE), "png")
    steps = recipe(job, item, 0, {"image": data}, SERVED)
    renders = next(steps)
    assert [render.seed for render in renders] == [5, 6, 7, 8, 9, 10, 11, 12]
    assert all(render.mask is not None and render.latent_size == (8, 8) for render in renders)
    with pytest.raises(StopIteration) as end:
        steps.send([np.full((64, 64, 3), RED, np.uint8)] * len(renders))
    (file,) = end.value.value.values()
    with Image.open(io.BytesIO(file)) as picture:
        assert picture.size == (128, 128)
    text = read_texts(file)["parameters"]
    assert "Seed: 5, Size: 64x64" in text
    assert "Mask blur: 8" in text


def finished(steps: Any, answer: Any) -> Any:
    """What a recipe returns once it is sent that; None: it asks for nothing."""
    with pytest.raises(StopIteration) as end:
        next(steps) if answer is None else steps.send(answer)
    return end.value.value


def test_many_tiles_may_be_rendered_by_others_and_come_to_the_same() -> None:
    given = params(outpaint="left, right, up, down", outpaint_pixels=32, images_per_input=3, return_mask=True)
    job = Job(id="0" * 16, model="tiny", params=given, n_inputs=1)
    item, pictures = Input(pictures={"image": IMAGE}), {"image": encode_picture(noise(100, 100), "png")}
    many = split_into_tiles(job, 2, item, pictures, SERVED)
    assert many is not None
    steps = recipe(job, item, 2, pictures, SERVED)
    renders = next(steps)
    assert len(renders) > MOST_TILES_OF_ONE
    made = [np.full((64, 64, 3), 5 * number, np.uint8) for number in range(len(renders))]
    parts = job.model_copy(update={"params": many.params})
    files: list[bytes] = []
    for number, (own, own_params) in enumerate(many.each):
        tile = recipe(parts, Input(params=dict(own_params)), number, {**pictures, **own}, SERVED)
        (alone,), render = next(tile), renders[number]
        assert alone.seed == render.seed
        for name in ("pixels", "mask", "cond_mask"):
            assert (getattr(alone, name) == getattr(render, name)).all()
        files += finished(tile, [made[number]]).values()
    assert len(files) == len(renders)
    together = finished(steps, made)
    assert finished(recipe(job, item, 2, pictures, SERVED, files), None) == together, "the text, too"


def test_few_tiles_and_sides_from_noise_stay_with_one_worker() -> None:
    item, pictures = Input(pictures={"image": IMAGE}), {"image": encode_picture(noise(100, 100), "png")}
    for values in ({}, {"outpaint_method": "noise", "outpaint": "left, right, up"}):
        job = Job(id="0" * 16, model="tiny", params=params(**values), n_inputs=1)
        assert split_into_tiles(job, 0, item, pictures, SERVED) is None


@pytest.mark.parametrize("values", [{"outpaint_tile": 2}, {"outpaint_tile": 0, "outpaint_method": "noise"}])
def test_a_tile_that_is_not_there_is_refused(values: dict[str, Any]) -> None:
    data = encode_picture(Image.new("RGB", (64, 64), BLUE), "png")

    def begin() -> None:
        job = Job(id="0" * 16, model="tiny", params=params(**values), n_inputs=1)
        next(recipe(job, Input(pictures={"image": IMAGE}), 0, {"image": data}, SERVED))

    with pytest.raises(Refused) as refused:
        begin()
    assert refused.value.field == "outpaint_tile"


def test_ways_of_different_length_go_side_by_side() -> None:
    def way(count: int) -> Any:
        found = []
        for number in range(count):
            found += yield [(count, number)] * count
        return found

    steps: Any = side_by_side([way(count) for count in (0, 2, 1)])
    assert next(steps) == [(2, 0), (2, 0), (1, 0)]
    assert steps.send("abc") == [(2, 1), (2, 1)]
    with pytest.raises(StopIteration) as end:
        steps.send("de")
    assert end.value.value == [[], ["a", "b", "d", "e"], ["c"]]
