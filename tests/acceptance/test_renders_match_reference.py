"""Whole renders, from encoded files to the finished picture, against the reference beside this file."""

import random
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from img2img_shared.params import Params
from img2img_worker.engine.engine import Engine, Pixels, Render
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.pictures.composite import compose
from img2img_worker.pictures.layout import lay_out
from img2img_worker.pictures.prepare import prepare
from tests.acceptance.reference import Reference
from tests.checkpoints import cached, sd1

Case = dict[str, Any]

#: mean absolute difference, of 255
TOLERANCE = 0.05

FACTORS: dict[str, list[Any]] = {
    "inpainting_fill": [0, 1, 2, 3],
    "resize_mode": [0, 1, 2, 3],
    "mask": [None, "binary", "soft", "alpha", "black", "at the edge"],
    "mask_round": [True, False],
    "inpainting_mask_invert": [0, 1],
    "mask_blur": [(0, 0), (4, 4), (1.3, 0), (0, 6)],
    "only_masked": [None, 0, 7],
    "denoising_strength": [0.0, 0.2, 0.5, 0.75, 1.0],
    "sampler_name": ["Euler", "Euler a", "Heun", "DDIM", "DPM++ 2M"],
    "scheduler": ["Automatic", "Uniform", "Karras", "Exponential"],
    "steps": [1, 4, 7],
    "size": [(83, 61, 64, 72), (61, 97, 88, 64), (130, 71, 64, 64), (72, 72, 72, 72)],
    "noise": [(1.0, 0.0), (0.8, 0.0), (1.0, 0.15)],
    "cfg_scale": [1.0, 4.5],
}


def covering(factors: dict[str, list[Any]], seed: int) -> list[Case]:
    """Cases in which every pair of values of any two factors occurs, chosen greedily."""
    chance = random.Random(seed)
    pairs = list(combinations(factors, 2))
    open_pairs = {
        (a, i, b, j) for a, b in pairs for i in range(len(factors[a])) for j in range(len(factors[b]))
    }

    def covered(case: dict[str, int]) -> set[tuple[str, int, str, int]]:
        return {(a, case[a], b, case[b]) for a, b in pairs} & open_pairs

    cases = []
    while open_pairs:
        a, i, b, j = chance.choice(sorted(open_pairs))
        tries = []
        for _ in range(30):
            case = {name: chance.randrange(len(values)) for name, values in factors.items()}
            tries.append(case | {a: i, b: j})
        best = max(tries, key=lambda case: len(covered(case)))
        open_pairs -= covered(best)
        cases.append({name: factors[name][index] for name, index in best.items()})
    return cases


CASES = covering(FACTORS, seed=1)


def params_of(case: Case, seed: int) -> Params:
    *_, width, height = case["size"]
    own = {"mask", "mask_blur", "only_masked", "size", "noise"}
    return Params(
        **{name: value for name, value in case.items() if name not in own},
        mask_blur_x=case["mask_blur"][0],
        mask_blur_y=case["mask_blur"][1],
        inpaint_full_res=case["only_masked"] is not None,
        inpaint_full_res_padding=case["only_masked"] or 0,
        width=width,
        height=height,
        initial_noise_multiplier=case["noise"][0],
        extra_noise=case["noise"][1],
        prompt="the red cat",
        negative_prompt="dog in the photo",
        seed=seed,
        subseed=0,
    )


def picture_of(case: Case, seed: int) -> Image.Image:
    """Smooth colours with some edges in them, as photographs have."""
    chance = np.random.default_rng(seed)
    width, height = case["size"][:2]
    coarse = Image.fromarray(chance.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    picture = coarse.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((width * 0.2, height * 0.3, width * 0.6, height * 0.8), fill=(200, 40, 60))
    return picture


def mask_of(case: Case) -> Image.Image | None:
    width, height = case["size"][:2]
    mask = Image.new("L", (width, height))
    draw = ImageDraw.Draw(mask)
    middle = (width * 0.3, height * 0.4, width * 0.7, height * 0.75)
    match case["mask"]:
        case None:
            return None
        case "binary":
            draw.ellipse(middle, fill=255)
        case "soft":
            draw.rectangle(middle, fill=110)
            draw.rectangle((width * 0.4, height * 0.5, width * 0.6, height * 0.6), fill=220)
        case "at the edge":
            draw.rectangle((width - 20, 0, width, 9), fill=255)
        case "alpha":
            draw.rectangle(middle, fill=200)
            draw.rectangle((3, 3, 9, 9), fill=100)
            see_through = Image.new("RGBA", (width, height), (10, 20, 30, 0))
            see_through.putalpha(mask)
            return see_through
    return mask


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached(tmp_path_factory, sd1)


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Reference:
    return Reference.read(checkpoint)


@pytest.fixture(scope="module")
def rendered(checkpoint: Path) -> Iterator[list[Future[Pixels]]]:
    """Every case, all of them submitted at once: they are in flight together."""
    with Engine(open_checkpoint(checkpoint), slots=8) as engine:
        futures = []
        for number, case in enumerate(CASES):
            params = params_of(case, number)
            ready = prepare(picture_of(case, number), mask_of(case), params)
            futures.append(
                engine.submit(
                    Render(
                        params=params,
                        prompt=params.prompt,
                        negative_prompt=params.negative_prompt,
                        seed=params.seed,
                        subseed=params.subseed,
                        pixels=ready.pixels,
                        latent_size=ready.latent_size,
                        mask=ready.mask,
                        cond_mask=ready.cond_mask,
                    )
                )
            )
        yield futures


@pytest.mark.parametrize("number", range(len(CASES)))
def test_a_render_is_what_the_reference_says(
    number: int, rendered: list[Future[Pixels]], reference: Reference
) -> None:
    case = CASES[number]
    ours = finished(case, number, rendered)
    theirs = reference.render(picture_of(case, number), mask_of(case), params_of(case, number))
    assert ours.size == theirs.size
    difference = np.abs(np.array(ours).astype(int) - np.array(theirs)).mean()
    assert difference < TOLERANCE, f"{difference:.3f} of 255 for {case}"


@pytest.mark.parametrize("number", [n for n, case in enumerate(CASES) if case["only_masked"] is not None])
def test_outside_the_mask_a_picture_equals_its_input(number: int, rendered: list[Future[Pixels]]) -> None:
    case = CASES[number]
    layout = lay_out(picture_of(case, number), mask_of(case), params_of(case, number))
    if layout.opening is None:
        assert case["mask"] in (None, "black")
        return
    ours = np.array(finished(case, number, rendered))
    outside = np.array(layout.opening) == 0
    assert np.array_equal(ours[outside], np.array(picture_of(case, number))[outside])


def finished(case: Case, number: int, rendered: list[Future[Pixels]]) -> Image.Image:
    result = Image.fromarray(rendered[number].result(120))
    return compose(result, picture_of(case, number), mask_of(case), params_of(case, number)).picture
