"""What the shipped checkpoint paints, judged on views that it was never trained on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from img2img_worker.engine.engine import Engine
from img2img_worker.models.checkpoints.catalog import DEMO
from img2img_worker.models.checkpoints.loading import open_checkpoint
from tools.demo_model.dataset import FIRST_UNSEEN, SIZE
from tools.demo_model.export import size
from tools.demo_model.labels import Scene, random_view
from tools.demo_model.report import Painter
from tools.demo_model.scenes import draw

Pictures = NDArray[np.uint8]


def unseen(count: int, **look: str) -> Pictures:
    views = [random_view(np.random.default_rng((7, FIRST_UNSEEN + k))) for k in range(count)]
    labels = {"time": "day", "season": "summer", "weather": "clear", "style": "flat", **look}
    scenes = [Scene(place=place, layout=layout, **labels) for place, layout in views]
    return np.stack([np.asarray(draw(scene, SIZE, SIZE)) for scene in scenes])


def distance(one: Pictures, other: Pictures) -> float:
    return float(np.abs(one.astype(float) - other).mean())


@pytest.fixture(scope="module")
def painter() -> Iterator[Painter]:
    family = open_checkpoint(DEMO)
    assert family.native_side == 128
    with Engine(family) as engine:
        yield Painter(engine, guidance=4.0)


def test_it_is_small_and_safe() -> None:
    assert size(DEMO) < 25e6
    endings = {path.suffix for path in Path(DEMO).rglob("*") if path.is_file()}
    assert endings <= {".json", ".txt", ".md", ".safetensors"}


def test_at_strength_0_a_picture_comes_back_as_it_was(painter: Painter) -> None:
    pictures = unseen(4)
    made = painter.paint(pictures, [""] * 4, denoising_strength=0)
    errors = ((made.astype(float) - pictures) ** 2).mean((1, 2, 3))
    assert (10 * np.log10(255**2 / errors)).mean() > 23


def test_it_follows_the_prompt_away_from_the_picture(painter: Painter) -> None:
    pictures = unseen(3)
    night = painter.paint(pictures, ["a flat illustration, at night"] * 3, denoising_strength=0.7, steps=10)
    dusk = painter.paint(pictures, ["a flat illustration, at sunset"] * 3, denoising_strength=0.7, steps=10)
    assert night.mean() < 0.7 * pictures.mean()
    assert dusk[..., 0].mean() - dusk[..., 2].mean() > 30  # red over blue
    assert pictures[..., 0].mean() < pictures[..., 2].mean()


def test_the_more_strength_the_farther_from_the_picture(painter: Painter) -> None:
    pictures = unseen(2)
    prompts = ["a flat illustration, at night, in winter"] * 2
    distances = [
        distance(painter.paint(pictures, prompts, denoising_strength=strength, steps=8), pictures)
        for strength in (0.0, 0.3, 0.6, 0.9)
    ]
    assert distances == sorted(distances)
