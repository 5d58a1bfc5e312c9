"""Pictures that are rendered again and again."""

import io
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from img2img_shared.errors import Refused
from img2img_shared.job import Input, Job, loop_name, result_key
from img2img_shared.loopback import Loop
from img2img_shared.params import Params
from img2img_shared.picture_texts import read_texts
from img2img_worker.farm.recipe import recipe
from img2img_worker.pictures.colour import colour_target, correct_colours
from img2img_worker.pictures.picture_file import encode_picture
from tests.unit.test_recipe import SERVED, half_mask

IMAGE, MASK = (f"inputs/{digit * 64}" for digit in "01")


def params(**values: object) -> Params:
    given = {"width": 64, "height": 64, "loopback": True, "loopback_loops": 3, **values}
    return Params.model_validate({"seed": 5, "subseed": 6, "denoising_strength": 0.6, **given})


@pytest.mark.parametrize(
    ("curve", "final", "loops", "told"),
    [
        ("Linear", 0.3, 3, "[0.6, 0.44999999999999996, 0.3]"),
        ("Lazy", 0.2, 4, "[0.6, 0.5464101615137754, 0.4, 0.20000000000000007]"),
        ("Linear", 0.3, 1, "[0.6]"),
    ],
)
def test_the_strength_of_each_render_is_a1111s(
    curve: Literal["Linear", "Lazy"], final: float, loops: int, told: str
) -> None:
    loop = Loop(loops=loops, first=0.6, last=final, curve=curve)
    assert str([loop.strength(number) for number in range(loops)]) == told


@pytest.mark.parametrize("returns_all", [True, False])
def test_each_result_is_the_next_input_with_the_next_seed(returns_all: bool) -> None:
    given = params(loopback_return_all=returns_all, inpainting_fill=2, inpaint_full_res=False)
    job = Job(id="0" * 16, model="tiny", params=given, n_inputs=1)
    item = Input(pictures={"image": IMAGE, "mask": MASK})
    data = encode_picture(Image.new("RGB", (64, 64), (10, 20, 30)), "png")
    steps = recipe(job, item, 0, {"image": data, "mask": half_mask()}, SERVED)
    made = [np.full((64, 64, 3), 50 * number + 50, np.uint8) for number in range(3)]
    asked = [*next(steps), *steps.send([made[0]]), *steps.send([made[1]])]
    with pytest.raises(StopIteration) as end:
        steps.send([made[2]])
    assert [render.seed for render in asked] == [5, 6, 7]
    assert [render.params.inpainting_fill for render in asked] == [2, 1, 1]
    seen = [render.pixels[0, 63].tolist() for render in asked if render.pixels is not None]
    assert seen[1:] == [[50] * 3, [100] * 3]
    names = [*map(loop_name, range(2)), ""] if returns_all else [""]
    files = end.value.value
    assert list(files) == [result_key(job.id, 0, "png", name) for name in names]
    colours = [Image.open(io.BytesIO(file)).getpixel((63, 0)) for file in files.values()]
    assert colours == [(50,) * 3, (100,) * 3, (150,) * 3][-len(names) :]
    text = read_texts(files[result_key(job.id, 0, "png")])["parameters"]
    assert "Seed: 7" in text
    assert "Final denoising strength: 0.5, Denoising curve: Linear" in text


def test_its_colors_are_those_of_the_picture_that_was_sent_or_of_what_each_render_starts_from() -> None:
    ramp = Image.linear_gradient("L").resize((64, 64))
    sent = Image.merge(
        "RGB", (ramp, ramp.point(lambda level: level // 5), ramp.point(lambda level: level // 2))
    )
    results = [np.full((64, 64, 3), (20, 30, 90), np.uint8), np.full((64, 64, 3), (150, 200, 180), np.uint8)]
    found = {}
    for target in ("first", "each"):
        given = params(loopback_loops=2, color_correction=True, loopback_color_target=target)
        job = Job(id="0" * 16, model="tiny", params=given, n_inputs=1)
        pictures = {"image": encode_picture(sent, "png")}
        steps = recipe(job, Input(pictures={"image": IMAGE}), 0, pictures, SERVED)
        next(steps)
        (second,) = steps.send(results[:1])
        assert second.pixels is not None
        starts = Image.fromarray(second.pixels)
        with pytest.raises(StopIteration) as end:
            steps.send(results[1:])
        found[target] = np.array(Image.open(io.BytesIO(end.value.value[result_key(job.id, 0, "png")])))
        wanted = correct_colours(
            Image.fromarray(results[1]), colour_target(sent if target == "first" else starts)
        )
        np.testing.assert_array_equal(found[target], wanted)
    assert (found["first"] != found["each"]).any()


@pytest.mark.parametrize("other", [{"txt2img": True}, {"outpaint": "left"}, {"sd_upscale": True}])
def test_it_does_not_go_with_others(other: dict[str, object]) -> None:
    with pytest.raises(Refused):
        params(**other)
