"""With tiling, a network knows no edges: what it sees may be moved around, and its answer moves along."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from img2img_shared.params import Params
from img2img_worker.engine.engine import Engine
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.condition import Conditions
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from tests import checkpoints
from tests.checkpoints import embedded
from tests.unit.engine_toys import render


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def opened(factory: pytest.TempPathFactory, vae_tile: int | None = None) -> StableDiffusion:
    family = open_checkpoint(checkpoints.cached(factory, checkpoints.sd1), vae_tile=vae_tile)
    assert isinstance(family, StableDiffusion)
    return family


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def moved(cells: Tensor, by: int = 1) -> Tensor:
    """By some cells of the UNet's coarsest level."""
    return cells.roll((2 * by, 4 * by), (-2, -1))


@pytest.mark.parametrize("tiling", [True, False])
def test_a_unets_answer_moves_with_its_latent(tiling: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    family = opened(tmp_path_factory)
    row = family.condition(embedded(family, "a red cat"), Params(tiling=tiling))
    x, t, conditions = noise(1, 4, 8, 12), torch.tensor([601.5]), Conditions.stack([row])
    answer = family.predict(x, t, conditions)
    assert torch.allclose(family.predict(moved(x), t, conditions), moved(answer), atol=1e-4) == tiling


@pytest.mark.parametrize("tiling", [True, False])
def test_a_decoded_picture_moves_with_its_latent(
    tiling: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    family = opened(tmp_path_factory)
    latent = noise(1, 4, 8, 12)
    pixels = family.decode(latent, tiling=tiling).pixels.permute(0, 3, 1, 2).int()
    found = family.decode(moved(latent), tiling=tiling).pixels.permute(0, 3, 1, 2).int()
    assert ((found - moved(pixels, by=8)).abs().max() <= 1) == tiling


def test_in_tiles_a_picture_wraps_around_as_a_whole(tmp_path_factory: pytest.TempPathFactory) -> None:
    whole, tiled = opened(tmp_path_factory), opened(tmp_path_factory, vae_tile=128)
    latent = torch.nn.functional.interpolate(noise(1, 4, 5, 5), size=(20, 24), mode="bicubic")
    wanted = whole.decode(latent, tiling=True).pixels.float()
    wrapped, careless = (tiled.decode(latent, tiling=tiling).pixels.float() for tiling in (True, False))
    assert wrapped.shape == wanted.shape
    edges = (slice(None), [0, -1])
    off, worse = ((each - wanted)[edges].abs().mean() for each in (wrapped, careless))
    assert off < 0.75 * worse


def test_pictures_with_and_without_tiling_are_in_flight_together(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    family = opened(tmp_path_factory)
    renders = [render(number // 2, steps=3, tiling=number % 2 == 1) for number in range(4)]
    with Engine(family, slots=1) as engine:
        alone = [engine.submit(each).result(60) for each in renders]
    with Engine(family, slots=4) as engine:
        together = [future.result(60) for future in [engine.submit(each) for each in renders]]
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
    assert not np.array_equal(alone[0], alone[1])
