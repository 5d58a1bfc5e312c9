"""The farm from submit to stored pictures, through real processes."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from img2img_producer import Picture
from img2img_shared.picture_texts import read_texts
from img2img_worker.models.adapters.lora_file import short_hash
from tests.eventually import eventually
from tests.faults.farm import FaultyFarm, picture

#: one job of each kind: what a picture is made of must not depend on the others
JOBS: list[dict[str, Any]] = [
    {"sampler_name": "Euler a", "steps": 6, "denoising_strength": 0.9, "prompt": "the red cat"},
    {"sampler_name": "DPM++ 2M", "steps": 9, "denoising_strength": 0.5, "cfg_scale": 1.0},
    {"sampler_name": "Heun", "steps": 4, "width": 72, "prompt": "a dog", "negative_prompt": "cat"},
    {"sampler_name": "DDIM", "steps": 5, "denoising_strength": 0.0},
]


def pixels(data: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """[H, W, 3] of an encoded picture."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def infotext_of(data: bytes) -> str:
    return read_texts(data).get("parameters", "")


def mask(width: int, height: int) -> bytes:
    """White in the middle third, black elsewhere."""
    image = Image.new("L", (width, height))
    image.paste(255, (width // 3, height // 3, 2 * width // 3, 2 * height // 3))
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def test_a_job_gives_the_same_bytes_alone_and_beside_others_on_one_worker_and_on_two(
    farm: FaultyFarm,
) -> None:
    farm.worker(slots=4)
    alone = []
    for wanted in JOBS:
        job = farm.submit(3, **wanted)
        farm.done(job)
        alone.append(farm.pictures(job))
    farm.worker(slots=3)
    eventually("two workers serve", lambda: len(farm.producer.workers()) == 2)
    together = [farm.submit(3, **wanted) for wanted in JOBS]
    for job, before in zip(together, alone, strict=True):
        farm.done(job)
        assert farm.pictures(job) == before
        assert len(before) == 3


def test_a_bad_input_fails_with_one_line_and_the_others_are_rendered(farm: FaultyFarm) -> None:
    whole = picture(1)
    inputs = [
        Picture(image=whole),
        Picture(image=b"this is not a picture"),
        Picture(image=whole[: len(whole) // 2]),
        Picture(image=whole, mask=b"nor is this"),
        Picture(image=whole, mask=mask(64, 64)),
    ]
    job = farm.producer.submit(inputs, model=farm.model, width=64, height=64, steps=2)
    farm.worker()
    farm.done(job)
    reasons = farm.reasons(job)
    assert sorted(reasons) == [1, 2, 3]
    assert all("\n" not in reason for reason in reasons.values())
    assert reasons[1].startswith("image is ")
    assert reasons[3].startswith("mask is ")
    assert sorted(farm.pictures(job)) == [0, 4]


@pytest.mark.parametrize("only_masked", [True, False])
def test_outside_the_mask_the_stored_picture_is_the_input(farm: FaultyFarm, only_masked: bool) -> None:
    source = picture(3)
    job = farm.producer.submit(
        [Picture(image=source, mask=mask(64, 64))],
        model=farm.model,
        width=64,
        height=64,
        steps=4,
        mask_blur=0,
        inpaint_full_res=only_masked,
        prompt="the cat",
    )
    farm.worker()
    farm.done(job)
    before, after = pixels(source), pixels(farm.pictures(job)[0])
    outside = pixels(mask(64, 64))[..., 0] == 0
    assert np.array_equal(before[outside], after[outside])
    assert not np.array_equal(before[~outside], after[~outside])


def test_a_picture_tells_which_loras_it_was_made_with(farm: FaultyFarm) -> None:
    ink = farm.folder / "models" / "Lora" / "ink.safetensors"
    ink.parent.mkdir(parents=True)
    save_file(
        {"lora_unet_conv_out.diff_b": torch.ones(4), "lora_unet_conv_out.diff": torch.zeros(4, 32, 3, 3)}, ink
    )
    job = farm.producer.submit(
        [Picture(image=picture(1), prompt=prompt) for prompt in ("the cat", "the cat <lora:ink:0.5>")],
        model=farm.model,
        width=64,
        height=64,
        steps=3,
        seed=5,
        seed_mode="same",
    )
    farm.worker(environment={"IMG2IMG_MODELS_DIR": str(ink.parent.parent)})
    farm.done(job)
    plain, inked = (farm.pictures(job)[index] for index in (0, 1))
    assert f'Lora hashes: "ink: {short_hash(ink)}"' in infotext_of(inked)
    assert "Lora" not in infotext_of(plain)
    assert not np.array_equal(pixels(plain), pixels(inked))


def test_a_picture_tells_how_it_was_made(farm: FaultyFarm) -> None:
    own = Picture(image=picture(2), prompt="a dog", seed=77)
    job = farm.producer.submit(
        [picture(1), own], model=farm.model, width=64, height=64, steps=3, seed=5, prompt="the cat"
    )
    farm.worker()
    farm.done(job)
    told = {index: infotext_of(data) for index, data in farm.pictures(job).items()}
    assert told[0].startswith("the cat\nSteps: 3, Sampler: Euler")
    assert "Seed: 5," in told[0]
    assert told[1].startswith("a dog\n")
    assert "Seed: 77," in told[1]


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
def test_other_formats_carry_it_too(farm: FaultyFarm, output_format: str) -> None:
    job = farm.submit(1, output_format=output_format, steps=1, prompt="the cat")
    farm.worker()
    farm.done(job)
    (data,) = farm.pictures(job).values()
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == output_format.upper()
    assert "the cat" in infotext_of(data)


def test_the_engine_is_loaded_once_for_many_jobs(farm: FaultyFarm) -> None:
    worker = farm.worker()
    for _ in range(3):
        farm.done(farm.submit(1, steps=1))
    assert worker.log.read_text().count(" serves ") == 1
