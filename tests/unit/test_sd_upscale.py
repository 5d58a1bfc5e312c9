"""Pictures that are enlarged and rendered in tiles."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from img2img_shared.errors import Refused
from img2img_shared.job import Input, Job
from img2img_shared.params import Params
from img2img_shared.picture_texts import read_texts
from img2img_worker.farm.recipe import recipe
from img2img_worker.farm.tiles_recipe import split_into_tiles
from img2img_worker.pictures.picture_file import encode_picture
from img2img_worker.pictures.tiled_upscale import enlarged, enlarged_size, mosaic_of, tile_seeds
from img2img_worker.pictures.upscale import no_networks
from tests.unit.test_recipe import SERVED, half_mask

ITEM = Input(pictures={"image": f"inputs/{'0' * 64}"})


def params(**values: object) -> Params:
    given = {"width": 64, "height": 64, "sd_upscale": True, "sd_upscale_overlap": 16, **values}
    return Params.model_validate({"seed": 5, "subseed": 6, **given})


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize("size", [(64, 64), (100, 80), (130, 64), (64, 90)])
@pytest.mark.parametrize("overlap", [0, 16, 40])
def test_tiles_that_are_left_as_they_are_make_the_same_picture(size: tuple[int, int], overlap: int) -> None:
    picture = noise(*size)
    mosaic, whole = enlarged(picture, params(sd_upscale_overlap=overlap), no_networks)
    tiles = list(mosaic.cut(whole))
    assert {tile.size for tile in tiles} == {(64, 64)}
    assert (np.asarray(mosaic.merged(tiles)) == np.asarray(picture)).all()


@pytest.mark.parametrize(("name", "size"), [("None", (50, 64)), ("Lanczos", (72, 96)), ("Nearest", (72, 96))])
def test_an_upscaler_makes_multiples_of_8_and_none_leaves_it(name: str, size: tuple[int, int]) -> None:
    wanted = params(sd_upscale_upscaler=name, sd_upscale_factor=1.5)
    mosaic, _ = enlarged(noise(50, 64), wanted, no_networks)
    assert mosaic.size == size


def test_seeds_count_by_lots_as_in_a1111() -> None:
    def seeds(count: int, **changes: Any) -> tuple[tuple[int, ...], ...]:
        return tuple(zip(*tile_seeds(count, params(**changes), 5, 7), strict=True))

    assert seeds(4) == ((5, 6, 7, 8), (7, 7, 7, 7))
    assert seeds(5, sd_upscale_batch=3) == ((5, 6, 7, 6, 7), (7, 8, 9, 7, 8))
    assert seeds(5, sd_upscale_batch=3, subseed_strength=0.5) == ((5, 5, 5, 6, 6), (7, 8, 9, 7, 8))


@pytest.mark.parametrize("strength", [0, 0.5])
def test_each_picture_begins_at_its_own_seed_whatever_the_strength(strength: float) -> None:
    given = params(images_per_input=3, subseed_strength=strength)
    job = Job(id="0" * 16, model="tiny", params=given, n_inputs=1)
    assert [job.seeds(index) for index in range(3)] == [(5, 6), (6, 6), (7, 6)]


@pytest.mark.parametrize(("lot", "seeds"), [(1, [6, 7, 8, 9]), (3, [6, 7, 8, 7])])
def test_each_tile_is_rendered_and_the_text_tells_what_was_done(lot: int, seeds: list[int]) -> None:
    given = params(sd_upscale_upscaler="Lanczos", sd_upscale_batch=lot, images_per_input=2, steps=3)
    job = Job(id="0" * 16, model="tiny", params=given, n_inputs=1)
    steps = recipe(job, ITEM, 1, {"image": encode_picture(noise(56, 56), "png")}, SERVED)
    renders = next(steps)
    assert [render.seed for render in renders] == seeds
    assert all(render.pixels is not None and render.pixels.shape == (64, 64, 3) for render in renders)
    colours = [np.full((64, 64, 3), 60 * number, np.uint8) for number in range(4)]
    with pytest.raises(StopIteration) as end:
        steps.send(colours)
    (file,) = end.value.value.values()
    with Image.open(io.BytesIO(file)) as picture:
        assert picture.size == (112, 112)
        corners = [picture.getpixel(place) for place in ((0, 0), (111, 0), (0, 111), (111, 111))]
    assert corners == [(60 * number,) * 3 for number in range(4)]
    text = read_texts(file)["parameters"]
    assert "Size: 64x64" in text
    assert "RNG: CPU, SD upscale overlap: 16, SD upscale upscaler: Lanczos" in text


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"txt2img": True}, "sd_upscale"),
        ({"outpaint": "left"}, "sd_upscale"),
        ({"sd_upscale_overlap": 64}, "sd_upscale_overlap"),
        ({"sd_upscale": False}, "sd_upscale_overlap"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, object], named: str) -> None:
    with pytest.raises(Refused) as refused:
        params(**values)
    assert refused.value.field == named


@pytest.mark.parametrize(
    ("values", "size", "named"),
    [
        ({"sd_upscale_factor": 8}, (2_000, 2_000), "sd_upscale_factor"),
        ({}, (2_000, 2_000), "width, height"),
    ],
)
def test_more_than_a_picture_may_be_is_refused(
    values: dict[str, object], size: tuple[int, int], named: str
) -> None:
    with pytest.raises(Refused) as refused:
        mosaic_of(enlarged_size(size, wanted := params(**values)), wanted)
    assert refused.value.field == named


def test_many_tiles_may_be_rendered_by_others_and_come_to_the_same() -> None:
    given = params(sd_upscale_upscaler="Lanczos", sd_upscale_factor=5, images_per_input=2, steps=3)
    job = Job(id="0" * 16, model="tiny", params=given, n_inputs=1)
    pictures = {"image": encode_picture(noise(56, 56), "png")}
    many = split_into_tiles(job, 1, ITEM, pictures, SERVED)
    assert many is not None
    steps = recipe(job, ITEM, 1, pictures, SERVED)
    renders = next(steps)
    for (own, own_params), render in zip(many.each, renders, strict=True):
        with Image.open(io.BytesIO(own["image"])) as picture:
            assert render.pixels is not None
            assert (np.asarray(picture) == render.pixels).all()
        assert own_params == {"seed": render.seed, "subseed": render.subseed}
    assert (many.params.sd_upscale, many.params.images_per_input, many.params.seed) == (False, 1, 6)
    made = [np.full((64, 64, 3), 5 * number, np.uint8) for number in range(36)]
    with pytest.raises(StopIteration) as together:
        steps.send(made)
    files = (encode_picture(Image.fromarray(each), "png") for each in made)
    with pytest.raises(StopIteration) as apart:
        next(recipe(job, ITEM, 1, pictures, SERVED, files))
    assert apart.value.value == together.value.value, "the text, too"


def test_where_others_render_the_tiles_no_hash_of_an_init_image_is_told() -> None:
    given = params(sd_upscale_factor=5, save_init_img=True)
    job = Job(id="0" * 16, model="tiny", params=given, n_inputs=1)
    files = (encode_picture(noise(64, 64), "png") for _ in range(36))
    with pytest.raises(StopIteration) as end:
        next(recipe(job, ITEM, 0, {"image": encode_picture(noise(56, 56), "png")}, SERVED, files))
    (data,) = end.value.value.values()
    assert "Init image hash" not in read_texts(data)["parameters"]


def test_tiles_under_a_mask_may_be_rendered_by_others_and_come_to_the_same() -> None:
    upscale = {"sd_upscale_upscaler": "Lanczos", "sd_upscale_factor": 5}
    given = params(**upscale, return_mask=True, mask_blur=2, images_per_input=2)
    job = Job(id="0" * 16, model="tiny", params=given, n_inputs=1)
    pictures = {"image": encode_picture(noise(56, 56), "png"), "mask": half_mask()}
    many = split_into_tiles(job, 1, ITEM, pictures, SERVED)
    assert many is not None
    steps = recipe(job, ITEM, 1, pictures, SERVED)
    renders = next(steps)
    made = [np.full((64, 64, 3), 5 * number, np.uint8) for number in range(36)]
    files = []
    parts = job.model_copy(update={"params": many.params})
    for (own, own_params), render, pixels in zip(many.each, renders, made, strict=True):
        item = Input(params=dict(own_params))
        tile = recipe(parts, item, 0, {**pictures, **own}, SERVED)
        (alone,) = next(tile)
        assert (alone.seed, alone.params.sd_upscale) == (render.seed, False)
        for name in ("pixels", "mask"):
            assert (getattr(alone, name) == getattr(render, name)).all()
        with pytest.raises(StopIteration) as end:
            tile.send([pixels])
        files += end.value.value.values()
    with pytest.raises(StopIteration) as together:
        steps.send(made)
    with pytest.raises(StopIteration) as apart:
        next(recipe(job, ITEM, 1, pictures, SERVED, files))
    assert apart.value.value == together.value.value, "the text, too"
    assert "Mask blur: 2" in read_texts(*apart.value.value.values())["parameters"]


def test_few_tiles_stay_with_one_worker() -> None:
    job = Job(id="0" * 16, model="tiny", params=params(sd_upscale_factor=2), n_inputs=1)
    assert split_into_tiles(job, 0, ITEM, {"image": encode_picture(noise(56, 56), "png")}, SERVED) is None
