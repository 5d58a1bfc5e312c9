"""In deterministic mode a picture of a real checkpoint has the same bytes whatever is rendered beside it."""

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from img2img_shared.params import Params
from img2img_worker.engine.engine import Engine, Pixels, Render
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.family import Family
from tests.checkpoints import cached, sd1

SAMPLERS = ("Euler", "Euler a", "Heun", "DDIM", "DPM++ 2M")
#: of one piece, of two and of three
PROMPTS = (
    "the cat",
    "red dog BREAK cat",
    "cat AND dog:0.7",
    "the [cat:dog BREAK in BREAK of:0.5]",
    "red " * 80,
)
#: latents of 8 × 8, and of 9 × 11: no multiple of any vector's width
SIZES = ((64, 64), (88, 72))


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return open_checkpoint(cached(tmp_path_factory, sd1))


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def render(number: int, size: tuple[int, int]) -> Render:
    width, height = size
    chance = np.random.default_rng(number)
    mask = (chance.random((height // 8, width // 8)) > 0.5).astype(np.float32)
    return Render(
        params=Params(
            width=width,
            height=height,
            steps=3 + number % 3,
            denoising_strength=(0.3, 0.6, 1.0)[number % 3],
            sampler_name=SAMPLERS[number % len(SAMPLERS)],
            cfg_scale=(7.0, 1.0, 4.0)[number // 2 % 3],
            inpainting_fill=(1, 2)[number % 2],
        ),
        prompt=PROMPTS[number % len(PROMPTS)],
        negative_prompt="",
        seed=number,
        subseed=0,
        pixels=chance.integers(0, 256, (height, width, 3), dtype=np.uint8),
        latent_size=(height // 8, width // 8),
        mask=mask if number % 4 == 2 else None,
    )


def run(family: Family, renders: list[Render], *, slots: int) -> list[Pixels]:
    with Engine(family, slots=slots, deterministic=True) as engine:
        return [future.result(120) for future in [engine.submit(each) for each in renders]]


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_company_and_place_change_no_byte(
    family: Family, threads: Callable[[int], None], size: tuple[int, int], n_threads: int
) -> None:
    threads(n_threads)
    renders = [render(number, size) for number in range(8)]
    alone = run(family, renders, slots=1)
    order = random.Random(1).sample(range(8), 8)
    together = run(family, [renders[number] for number in order], slots=5)
    assert len({picture.tobytes() for picture in alone}) == 8
    for place, number in enumerate(order):
        assert np.array_equal(together[place], alone[number]), f"render {number}"


def test_otherwise_no_pixel_differs_by_more_than_one(family: Family, threads: Callable[[int], None]) -> None:
    threads(1)
    renders = [render(number, SIZES[number % 2]) for number in range(10)]
    pictures = []
    for slots in (1, 6):
        with Engine(family, slots=slots, deterministic=False) as engine:
            pictures.append([future.result(120) for future in [engine.submit(each) for each in renders]])
    for one, other in zip(*pictures, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
