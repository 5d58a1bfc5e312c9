"""How one image of a job is made, without a farm around it."""

import hashlib
import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from img2img_shared.errors import Refused
from img2img_shared.job import Input, Job, result_key
from img2img_shared.params import Params
from img2img_shared.picture_texts import read_texts
from img2img_worker.farm.recipe import Files, Recipe, ingredients, recipe
from img2img_worker.farm.served import Served
from img2img_worker.pictures.colour import colour_target, correct_colours
from img2img_worker.pictures.decode import Decoder
from img2img_worker.pictures.picture_file import encode_picture
from img2img_worker.pictures.upscale import no_networks
from img2img_worker.sampling.levels import NoiseLevels

LEVELS = NoiseLevels.from_alphas_cumprod(np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2))
IMAGE, MASK, OWN_MASK = (f"inputs/{digit * 64}" for digit in "012")
SERVED = Served(
    model="tiny",
    title="tiny-model",
    model_hash="0123456789",
    decoder=Decoder(10_000),
    vae_factor=8,
    lora_hashes=lambda *_: {},
    inversion_hashes=lambda *_: (),
    levels=lambda _: LEVELS,
    context_length=lambda _texts, _options: 77,
    restore_faces=lambda _name, pixels, _weight: 255 - pixels,
    run_upscaler=lambda name, image, _: no_networks(name, image),
)


def picture(mode: str, colour: str | int) -> bytes:
    data = io.BytesIO()
    Image.new(mode, (64, 64), colour).save(data, "PNG")
    return data.getvalue()


def half_mask() -> bytes:
    """The right half is repainted."""
    mask = Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    return encode_picture(mask, "png")


PICTURES = {"image": picture("RGB", "#204060"), "mask": picture("L", 255)}
ITEM = Input(pictures={"image": IMAGE})


def job(**params: object) -> Job:
    values = {"width": 64, "height": 64, "seed": 5, "subseed": 6, "images_per_input": 2, **params}
    return Job(id="0" * 16, model="tiny", params=Params(**values), n_inputs=1, pictures={"mask": MASK})


def finished(steps: Recipe, *answers: NDArray[np.uint8]) -> Files:
    with pytest.raises(StopIteration) as end:
        steps.send(list(answers))
    files: Files = end.value.value
    return files


def darkened(name: str, image: Image.Image, params: Params) -> Image.Image:
    """A network's part: twice as large, and of a colour that tells of the name and the parameters."""
    return Image.new("RGB", (image.width * 2, image.height * 2), (len(name), params.esrgan_tile, 7))


def test_a_smaller_picture_goes_through_the_upscaler_that_is_wanted() -> None:
    served = replace(SERVED, run_upscaler=darkened)
    wanted = job(width=128, height=128, upscaler_for_img2img="2x", esrgan_tile=32)
    steps = recipe(wanted, ITEM, 0, {"image": PICTURES["image"]}, served)
    (render,) = next(steps)
    assert render.pixels is not None
    np.testing.assert_array_equal(render.pixels, np.full((128, 128, 3), (2, 32, 7), np.uint8))


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_a_recipe_wants_the_inputs_own_mask_before_the_jobs() -> None:
    own = Input(pictures={"image": IMAGE, "mask": OWN_MASK})
    assert ingredients(job(), ITEM) == {"image": IMAGE, "mask": MASK}
    assert ingredients(job(), own) == {"image": IMAGE, "mask": OWN_MASK}
    assert ingredients(job().model_copy(update={"pictures": {}}), ITEM) == {"image": IMAGE}


def test_an_input_of_its_own_makes_one_render_and_its_answer_the_file() -> None:
    item = Input(pictures={"image": IMAGE, "mask": OWN_MASK}, params={"prompt": "a boat", "seed": 70})
    steps = recipe(job(), item, 1, {**PICTURES, "mask": picture("L", 0)}, SERVED)
    (render,) = next(steps)
    assert (render.prompt, render.negative_prompt, render.seed, render.subseed) == ("a boat", "", 71, 7)
    assert render.mask is None, "an all-black mask with only the masked part to work on"
    np.testing.assert_array_equal(render.pixels, np.full((64, 64, 3), (0x20, 0x40, 0x60)))
    files = finished(steps, np.full((64, 64, 3), 200, np.uint8))
    assert list(files) == [result_key(job().id, 1, "png")]
    (data,) = files.values()
    np.testing.assert_array_equal(np.asarray(opened(data)), 200)
    text = read_texts(data)["parameters"]
    assert text.startswith("a boat\nSteps: 20, ")
    assert "Seed: 71," in text
    assert "Model hash: 0123456789, Model: tiny-model," in text
    assert "RNG: CPU, Mask blur: 4, Version" in text, "A1111 tells it of an empty mask, and no more"


def test_the_pixels_of_an_init_image_are_told_by_their_md5_where_a1111_tells_it() -> None:
    image = {"image": picture("RGBA", "#20406080")}
    steps = recipe(job(save_init_img=True), ITEM, 0, image, SERVED)
    next(steps)
    (data,) = finished(steps, np.full((64, 64, 3), 200, np.uint8)).values()
    known = hashlib.md5(bytes.fromhex("20406080") * 64 * 64, usedforsecurity=False).hexdigest()
    assert f", Init image hash: {known}, RNG: CPU" in read_texts(data)["parameters"]


@pytest.mark.parametrize(
    ("params", "is_told"),
    [
        ({}, True),
        ({"textual_inversion_add_hashes_to_infotext": False}, False),
        ({"use_old_emphasis_implementation": True}, False),
    ],
)
def test_the_hashes_of_textual_inversions_are_told_where_a1111_tells_them(
    params: dict[str, object], is_told: bool
) -> None:
    served = replace(SERVED, inversion_hashes=lambda *_: [("bad-hands", "b980aafda4d5")])
    steps = recipe(job(**params), ITEM, 0, {"image": PICTURES["image"]}, served)
    next(steps)
    (data,) = finished(steps, np.zeros((64, 64, 3), np.uint8)).values()
    assert ('TI hashes: "bad-hands: b980aafda4d5"' in read_texts(data)["parameters"]) is is_told


@pytest.mark.parametrize(
    ("negative", "told"),
    [("b d", "b: 1, c: 1, a: 1, b: 1, b: 1, d: 1"), ("c", "b: 1, c: 1, a: 1, b: 1")],
)
def test_the_hashes_of_inversions_are_told_in_a1111s_order(negative: str, told: str) -> None:
    served = replace(
        SERVED, inversion_hashes=lambda texts, *_: [(word, "1") for text in texts for word in text.split()]
    )
    steps = recipe(
        job(prompt="a b AND b c", negative_prompt=negative), ITEM, 0, {"image": PICTURES["image"]}, served
    )
    next(steps)
    (data,) = finished(steps, np.zeros((64, 64, 3), np.uint8)).values()
    assert f'TI hashes: "{told}"' in read_texts(data)["parameters"]


def test_the_hashes_of_loras_are_told_unless_they_are_not_wanted() -> None:
    served = replace(SERVED, lora_hashes=lambda *_: {"ink": "f4bd44605b0d"})
    for wanted in (True, False):
        one = job(lora_add_hashes_to_infotext=wanted)
        steps = recipe(one, ITEM, 0, {"image": PICTURES["image"]}, served)
        next(steps)
        (data,) = finished(steps, np.zeros((64, 64, 3), np.uint8)).values()
        assert ('Lora hashes: "ink: f4bd44605b0d"' in read_texts(data)["parameters"]) is wanted


def test_a_result_that_is_to_fit_has_its_inputs_shape_and_tells_its_size() -> None:
    wide = encode_picture(Image.new("RGB", (120, 60)), "png")
    small = replace(SERVED, native_side=64)
    fitting = Job(id="0" * 16, model="tiny", params=Params(fit=0, seed=5, subseed=6), n_inputs=1)
    steps = recipe(fitting, ITEM, 0, {"image": wide}, small)
    (render,) = next(steps)
    assert render.pixels is not None
    assert (render.pixels.shape, render.latent_size) == ((64, 128, 3), (8, 16))
    (data,) = finished(steps, np.zeros((64, 128, 3), np.uint8)).values()
    assert "Size: 128x64," in read_texts(data)["parameters"]
    noise = fitting.model_copy(update={"params": Params(fit=0, txt2img=True, seed=5, subseed=6)})
    (render,) = next(recipe(noise, Input(), 0, {}, small))
    assert render.latent_size == (8, 8)


def test_colours_are_corrected_before_the_original_is_laid_over() -> None:
    colours = np.random.default_rng(1).integers(60, 120, (64, 64, 3), dtype=np.uint8)
    pictures = {"image": encode_picture(Image.fromarray(colours), "png"), "mask": half_mask()}
    params = {"color_correction": True, "inpaint_full_res": False, "inpainting_fill": 1, "mask_blur": 0}
    steps = recipe(job(**params), ITEM, 0, pictures, SERVED)
    (render,) = next(steps)
    assert render.pixels is not None
    answer = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    (data,) = finished(steps, answer).values()
    right = correct_colours(Image.fromarray(answer), colour_target(Image.fromarray(render.pixels)))
    np.testing.assert_array_equal(np.asarray(opened(data))[:, 32:], np.asarray(right)[:, 32:])
    np.testing.assert_array_equal(np.asarray(opened(data))[:, :32], colours[:, :32])


def test_mask_and_composite_are_given_beside_a_masked_picture_and_the_picture_comes_last() -> None:
    pictures = {**PICTURES, "mask": half_mask()}
    wanted = {"return_mask": True, "return_mask_composite": True, "mask_blur": 0, "inpaint_full_res": False}
    answer = np.full((64, 64, 3), 200, np.uint8)
    steps = recipe(job(**wanted), ITEM, 1, pictures, SERVED)
    next(steps)
    files = finished(steps, answer)
    assert list(files) == [result_key(job().id, 1, "png", each) for each in ("mask", "mask-composite", "")]
    mask, composite, picture = (np.asarray(opened(data)) for data in files.values())
    np.testing.assert_array_equal(mask[:, 32:], 255)
    np.testing.assert_array_equal(composite, np.dstack([answer * (mask > 0), mask[..., 0]]))
    np.testing.assert_array_equal(picture[:, 32:], 200)
    assert "parameters" not in opened(next(iter(files.values()))).info

    steps = recipe(job(**wanted, overlay_inpaint=False), ITEM, 1, pictures, SERVED)
    next(steps)
    np.testing.assert_array_equal(np.asarray(opened([*finished(steps, answer).values()][-1])), 200)
    steps = recipe(job(**wanted), ITEM, 1, {"image": pictures["image"]}, SERVED)
    next(steps)
    assert len(finished(steps, answer)) == 1


def test_an_inputs_own_parameters_make_its_render_and_its_text() -> None:
    own = {"cfg_scale": 3.5, "steps": 9, "width": 128, "sampler_name": "Euler a", "denoising_strength": 1.0}
    item = Input(pictures={"image": IMAGE}, params=own)
    steps = recipe(job(images_per_input=1), item, 0, {"image": PICTURES["image"]}, SERVED)
    (render,) = next(steps)
    assert (render.params.cfg_scale, render.params.steps, render.latent_size) == (3.5, 9, (8, 16))
    (data,) = finished(steps, np.full((64, 128, 3), 200, np.uint8)).values()
    text = read_texts(data)["parameters"]
    assert (
        "Steps: 9, Sampler: Euler a, Schedule type: Automatic, CFG scale: 3.5, Seed: 5, Size: 128x64" in text
    )


def test_an_input_may_be_noise_alone_beside_others_with_pictures() -> None:
    item = Input(params={"txt2img": True})
    assert ingredients(job(), item) == {}
    (render,) = next(recipe(job(), item, 0, {}, SERVED))
    assert render.pixels is None


def test_a_control_picture_that_no_unit_looks_at_is_refused() -> None:
    with pytest.raises(Refused, match="control/1 is a picture: "):
        ingredients(job(), Input(pictures={"image": IMAGE, "control/1": IMAGE}))


def test_a_picture_that_cannot_be_read_is_refused_before_anything_is_rendered() -> None:
    with pytest.raises(Refused, match="image is "):
        next(recipe(job(), ITEM, 0, {**PICTURES, "image": b"nothing"}, SERVED))


def test_txt2img_wants_no_picture_and_tells_of_no_strength() -> None:
    assert ingredients(job(txt2img=True), Input()) == {}
    steps = recipe(job(txt2img=True, prompt="a boat # at night"), Input(), 0, {}, SERVED)
    (render,) = next(steps)
    assert (render.pixels, render.latent, render.mask) == (None, None, None)
    assert render.latent_size == (8, 8)
    (data,) = finished(steps, np.full((64, 64, 3), 9, np.uint8)).values()
    text = read_texts(data)["parameters"]
    assert text.startswith("a boat \n\nSteps: 20, ")
    assert "strength" not in text
    assert "ask" not in text


def test_img2img_without_a_picture_is_refused() -> None:
    with pytest.raises(Refused, match="image is missing: "):
        ingredients(job(), Input())
