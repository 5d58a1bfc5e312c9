"""The VAE in steps: what comes out is what its network says at once, whoever used it between two steps."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families import vae
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from img2img_worker.models.families.vae import to_pictures, to_unit
from img2img_worker.models.steps import Steps
from tests import checkpoints


@pytest.fixture(autouse=True)
def every_layer_is_a_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(vae, "LARGE", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


def family(factory: pytest.TempPathFactory, **more: object) -> StableDiffusion:
    opened = open_checkpoint(checkpoints.cached(factory, checkpoints.sd1), **more)  # type: ignore[arg-type]
    assert isinstance(opened, StableDiffusion)
    return opened


PIXELS = torch.randint(0, 256, (2, 96, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_all_layers_in_turn_are_the_network(tmp_path_factory: pytest.TempPathFactory) -> None:
    sd1 = family(tmp_path_factory)
    network = sd1.vae.network
    mean = network.encode(to_unit(PIXELS, sd1.device)).latent_dist.mean
    latents = sd1.encode(PIXELS)
    assert torch.equal(latents, sd1.vae.scaled(mean))
    decoded = network.decode(sd1.vae.unscaled(latents)).sample
    assert torch.equal(sd1.decode(latents).pixels, to_pictures(decoded).pixels)


@pytest.mark.parametrize("tile", [None, 64])
def test_others_may_use_it_between_two_steps(
    tmp_path_factory: pytest.TempPathFactory, tile: int | None
) -> None:
    sd1 = family(tmp_path_factory, vae_tile=tile)
    latents = sd1.encode(PIXELS)
    wanted = [
        sd1.encode(PIXELS, tiling=True),
        *(sd1.decode(latents, tiling=way).pixels for way in (False, True)),
    ]
    assert not torch.equal(wanted[1], wanted[2])
    made, n_steps = in_turns(
        sd1.encode_steps(PIXELS, tiling=True),
        pixels(sd1, latents, tiling=False),
        pixels(sd1, latents, tiling=True),
    )
    assert all(torch.equal(one, other) for one, other in zip(made, wanted, strict=True))
    assert min(n_steps) > 1


def test_one_that_overflows_is_made_again_in_full_precision(tmp_path_factory: pytest.TempPathFactory) -> None:
    half = family(tmp_path_factory, vae_dtype=torch.float16)
    latents = half.encode(PIXELS)
    usual = half.decode(latents).pixels
    large = latents * 1e5  # beyond what float16 can hold
    (beside, repeated), _ = in_turns(pixels(half, latents, tiling=False), pixels(half, large, tiling=False))
    assert torch.equal(beside, usual)
    assert torch.equal(repeated, half.decode(large).pixels)
    assert half.vae.network.dtype == torch.float16


def pixels(sd1: StableDiffusion, latents: Tensor, *, tiling: bool) -> Steps[Tensor]:
    return (yield from sd1.decode_steps(latents, tiling=tiling)).pixels


def in_turns(*works: Steps[Tensor]) -> tuple[list[Tensor], list[int]]:
    """What they make, a step of each after the other, and how many steps each took."""
    made: dict[int, Tensor] = {}
    steps = [0] * len(works)
    while len(made) < len(works):
        for number, work in enumerate(works):
            if number not in made:
                steps[number] += 1
                try:
                    next(work)
                except StopIteration as end:
                    made[number] = end.value
    return [made[number] for number in range(len(works))], steps
