"""How one image of a job is made, without a farm around it."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from img2img_shared.errors import Refused
from img2img_shared.job import Input, Job
from img2img_shared.params import Params
from img2img_worker.farm.recipe import Recipe, Served, ingredients, recipe
from img2img_worker.pictures.infotext import read_infotext
from img2img_worker.sampling.levels import NoiseLevels

LEVELS = NoiseLevels.from_alphas_cumprod(np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2))
IMAGE, MASK, OWN_MASK = (f"inputs/{digit * 64}" for digit in "012")
SERVED = Served(
    model="tiny",
    title="tiny-model",
    model_hash="0123456789",
    max_pixels=10_000,
    vae_factor=8,
    lora_hashes=lambda _: {},
    levels=lambda _: LEVELS,
)


def picture(mode: str, colour: str | int) -> bytes:
    data = io.BytesIO()
    Image.new(mode, (64, 64), colour).save(data, "PNG")
    return data.getvalue()


BLOBS = {IMAGE: picture("RGB", "#204060"), MASK: picture("L", 255), OWN_MASK: picture("L", 0)}


def job(**params: object) -> Job:
    values = {"width": 64, "height": 64, "seed": 5, "subseed": 6, "images_per_input": 2, **params}
    return Job(id="0" * 16, model="tiny", params=Params(**values), n_inputs=1, mask=MASK)


def finished(steps: Recipe, *answers: NDArray[np.uint8]) -> bytes:
    with pytest.raises(StopIteration) as end:
        steps.send(list(answers))
    data: bytes = end.value.value
    return data


def test_a_recipe_wants_the_inputs_own_mask_before_the_jobs() -> None:
    assert ingredients(job(), Input(image=IMAGE)) == (IMAGE, MASK)
    assert ingredients(job(), Input(image=IMAGE, mask=OWN_MASK)) == (IMAGE, OWN_MASK)
    assert ingredients(job().model_copy(update={"mask": None}), Input(image=IMAGE)) == (IMAGE,)


def test_an_input_of_its_own_makes_one_render_and_its_answer_the_file() -> None:
    item = Input(image=IMAGE, mask=OWN_MASK, prompt="a boat", seed=70)
    steps = recipe(job(), item, 1, BLOBS, SERVED)
    (render,) = next(steps)
    assert (render.prompt, render.negative_prompt, render.seed, render.subseed) == ("a boat", "", 71, 7)
    assert render.mask is None, "an all-black mask with only the masked part to work on"
    np.testing.assert_array_equal(render.pixels, np.full((64, 64, 3), (0x20, 0x40, 0x60)))
    data = finished(steps, np.full((64, 64, 3), 200, np.uint8))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), 200)
    text = read_infotext(data)
    assert text is not None
    assert text.startswith("a boat\nSteps: 20, ")
    assert "Seed: 71," in text
    assert "Model hash: 0123456789, Model: tiny-model," in text


def test_a_picture_that_cannot_be_read_is_refused_before_anything_is_rendered() -> None:
    with pytest.raises(Refused, match="image: "):
        next(recipe(job(), Input(image=IMAGE), 0, {**BLOBS, IMAGE: b"nothing"}, SERVED))
