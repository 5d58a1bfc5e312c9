"""Control units in an image's making: the pictures that they see, what is remembered, and what is given."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from img2img_shared.errors import Refused
from img2img_shared.farm.submission import draw_seeds
from img2img_shared.job import Input, Job, result_key
from img2img_shared.picture_texts import read_texts
from img2img_worker.engine.render import Render
from img2img_worker.farm import unit_pictures
from img2img_worker.farm.control_cache import ControlCache, key_of
from img2img_worker.farm.recipe import Files, ingredients, recipe
from img2img_worker.pictures.control.prepare_control import ControlPicture, control_pictures
from img2img_worker.pictures.picture_file import encode_picture
from tests.unit.test_recipe import SERVED

EDGES = {"model": "edges", "save_detected_map": True}


def picture(seed: int, size: int = 64) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    return encode_picture(Image.fromarray(pixels), "png")


PICTURES = {"image": picture(0), "control/0": picture(1)}


def job(*units: dict[str, object], **params: object) -> Job:
    values = {"width": 64, "height": 64, "seed": 5, "subseed": 6, "control": units, **params}
    return Job.model_validate({"id": "0" * 16, "model": "tiny", "params": values, "n_inputs": 1})


def made(one: Job, pictures: dict[str, bytes]) -> tuple[list[Render], Files]:
    """The renders of its one image, each answered with grey, and the files that come out."""
    steps = recipe(one, Input(), 0, pictures, SERVED)
    renders: list[Render] = []
    try:
        asked = next(steps)
        while True:
            renders += asked
            asked = steps.send([grey(each) for each in asked])
    except StopIteration as end:
        files: Files = end.value
        return renders, files


def grey(render: Render) -> NDArray[np.generic]:
    height, width = render.latent_size
    if render.wants_latent:
        return np.zeros((4, height, width), np.float32)
    return np.full((8 * height, 8 * width, 3), 128, np.uint8)


def test_a_unit_sees_its_own_picture_else_the_init_image_and_its_map_lies_beside_the_result() -> None:
    one = job(EDGES, {**EDGES, "module": "invert"})
    (render,), files = made(one, PICTURES)
    own, inverted = (each.picture for each in render.controls)
    assert (own != 255 - inverted).any()
    names = [result_key(one.id, 0, "png", name) for name in ("control-0", "control-1", "")]
    assert list(files) == names


def test_a_hires_fix_has_a_picture_for_each_pass_the_larger_first_and_units_for_one_alone() -> None:
    low = {**EDGES, "hr_option": "Low res only"}
    one = job(EDGES, low, txt2img=True, enable_hr=True, hr_scale=1.5, denoising_strength=0.5)
    renders, files = made(one, {"control/0": picture(1), "control/1": picture(2)})
    assert [len(each.controls) for each in (renders[0], renders[-1])] == [2, 1]
    (second,) = renders[-1].controls
    assert second.picture.shape == (96, 96, 3)
    assert second.first_pass is not None
    np.testing.assert_array_equal(second.first_pass, renders[0].controls[0].picture)
    high = job({**EDGES, "hr_option": "High res only"}, txt2img=True, enable_hr=True, hr_scale=1.5)
    assert made(high, {"control/0": picture(1)})[0][-1].controls[0].first_pass is None
    maps = [Image.open(io.BytesIO(data)).size for data in list(files.values())[:-1]]
    assert maps == [(96, 96), (64, 64)] * 2


@pytest.mark.parametrize("module", ["tile_colorfix", "tile_colorfix+sharp", "inpaint_only"])
def test_what_a_unit_does_to_answers_counts_in_both_passes_of_a_hires_fix(module: str) -> None:
    changes = {"txt2img": True, "enable_hr": True, "hr_scale": 1.5}
    for option, off in (("Low res only", [False, True]), ("High res only", [True, False])):
        one = job({**EDGES, "module": module, "hr_option": option}, **changes)
        renders, _ = made(one, {"control/0": picture(1)})
        controls = [*renders[0].controls, *renders[-1].controls]
        assert [each.amends_only for each in controls] == off
        assert controls[1].picture.shape[:2] == (96, 96)


@pytest.mark.parametrize(("refiner", "is_behind"), [(None, False), ("second", True)])
def test_control_is_told_behind_a_hires_fix_where_a_refiner_is_to_come(
    refiner: str | None, is_behind: bool
) -> None:
    hires = {"txt2img": True, "enable_hr": True, "steps": 2, "refiner_checkpoint": refiner}
    _, files = made(job(EDGES, **hires), {"control/0": picture(1)})
    text = read_texts(list(files.values())[-1])["parameters"]
    assert (text.index("Hires upscale: ") < text.index("ControlNet 0: ")) is is_behind


def test_a_unit_sees_whole_cells_of_a_size_that_is_no_multiple_of_8_as_in_the_extension() -> None:
    one = job(EDGES, {**EDGES, "pixel_perfect": True}, width=100, height=70, odd_size=True)
    (render,), files = made(one, PICTURES | {"control/1": picture(2)})
    assert render.latent_size == (8, 12)
    assert [each.picture.shape for each in render.controls] == [(64, 96, 3)] * 2
    shown = [Image.open(io.BytesIO(files[result_key(one.id, 0, "png", f"control-{k}")])).size for k in (0, 1)]
    assert shown == [(96, 64)] * 2


def test_an_adapters_unit_sees_several_pictures_and_each_is_shown_once_as_it_is() -> None:
    pictures = {"control/0": picture(1), "control/0/2": picture(2, 96), "control/0/mask": picture(3)}
    one = job({**EDGES, "module": "ip-adapter-auto"}, txt2img=True, enable_hr=True, hr_scale=1.5)
    renders, files = made(one, pictures)
    for render in (renders[0], renders[-1]):
        (own,) = render.controls
        assert [each.shape for each in (own.picture, *own.more)] == [(224, 224, 4)] * 2
        assert own.picture[:, :, 3].any()
        assert not own.more[0][:, :, 3].any()
    maps = [Image.open(io.BytesIO(data)).size for data in list(files.values())[:-1]]
    assert maps == [(64, 64), (96, 96)]


def test_without_a_render_the_result_is_what_the_preprocessor_makes() -> None:
    one = job({"module": "canny", "processor_res": 128}, control_only=True)
    renders, files = made(one, PICTURES)
    assert renders == []
    (data,) = files.values()
    assert Image.open(io.BytesIO(data)).size == (128, 128)


def test_pictures_without_a_unit_and_units_without_a_picture_are_refused() -> None:
    one = job(EDGES)
    key = "inputs/" + "0" * 64
    with pytest.raises(Refused, match="control/1"):
        ingredients(one, Input(pictures={"image": key, "control/1": key}))
    with pytest.raises(Refused, match="control/0"):
        ingredients(job(EDGES, txt2img=True), Input())
    with pytest.raises(Refused, match="only IP-Adapters look at several"):
        ingredients(one, Input(pictures={"image": key, "control/0": key, "control/0/1": key}))
    seeing = job({**EDGES, "module": "ip-adapter-auto"})
    with pytest.raises(Refused, match="it needs control/0 beside it"):
        ingredients(seeing, Input(pictures={"image": key, "control/0/1": key}))
    with pytest.raises(Refused, match="control/0/mask"):
        ingredients(one, Input(pictures={"image": key, "control/0/mask": key}))


def test_a_region_is_where_a_picture_is_red_however_see_through() -> None:
    colour = np.zeros((64, 64, 4), np.uint8)
    colour[:, 32:, 0] = 200
    region = encode_picture(Image.fromarray(colour), "png")
    (render,), _ = made(job(EDGES), {**PICTURES, "control/0/region": region})
    assert render.controls[0].region is not None
    np.testing.assert_array_equal(render.controls[0].region, colour[:, :, 0])


def test_a_grey_region_is_refused_for_the_extension_makes_nothing_of_it() -> None:
    region = encode_picture(Image.new("L", (64, 64), 255), "png")
    with pytest.raises(Refused, match="control/0/region"):
        made(job(EDGES), {**PICTURES, "control/0/region": region})


def test_one_picture_with_one_setting_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    def counted(*given: Any) -> list[ControlPicture]:
        calls.append(given)
        return control_pictures(*given)

    monkeypatch.setattr(unit_pictures, "control_pictures", counted)
    pictures = {**PICTURES, "control/0": picture(77)}
    made(job(EDGES), pictures)
    made(job({**EDGES, "weight": 0.5}, seed=8, prompt="other"), pictures)
    assert len(calls) == 1
    made(job({**EDGES, "module": "canny"}), pictures)
    made(job(EDGES, width=72), pictures)
    assert len(calls) == 3


def test_the_seed_has_a_part_in_what_is_random_alone() -> None:
    params = job(EDGES).params
    keys = {
        module: [
            key_of(job({**EDGES, "module": module}).params.control[0], params, [(64, 64)], {}, seed)
            for seed in (1, 2)
        ]
        for module in ("canny", "shuffle")
    }
    assert keys["canny"][0] == keys["canny"][1]
    assert keys["shuffle"][0] != keys["shuffle"][1]


def test_a_preprocessors_seed_is_a1111s_sum_of_two() -> None:
    shuffled = {**EDGES, "module": "shuffle"}
    name = result_key("0" * 16, 0, "png", "control-0")

    def shown(**params: object) -> bytes:
        drawn = draw_seeds(job(shuffled, **params).params)
        one = job(shuffled).model_copy(update={"params": drawn})
        return made(one, PICTURES)[1][name]

    unset = {"subseed": -1}
    assert shown(**unset) == shown(**unset) == shown(subseed=5) != shown(subseed=77)
    assert shown(seed=5, subseed=77) == shown(seed=77, subseed=5, subseed_strength=0.5)
    assert shown(subseed=-7) == shown(subseed=0)
    assert shown(control_subseed=77) == shown(subseed=77)


def test_the_least_used_is_forgotten_first() -> None:
    cache = ControlCache(most=2 * 3 * 64 * 64)
    one = (ControlPicture(pixels=np.zeros((64, 64, 3), np.uint8)),)
    made: list[str] = []

    def ask(key: str) -> None:
        def make() -> tuple[ControlPicture, ...]:
            made.append(key)
            return one

        cache.get(key, make)

    for key in ("a", "b", "a", "c", "a", "b"):
        ask(key)
    assert made == ["a", "b", "c", "b"]
