"""The VAE in steps: what comes out is what its network says at once, whoever used it between two steps."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from img2img_shared.settings import Settings
from img2img_worker.models.checkpoints.loading import open_checkpoint, precisions
from img2img_worker.models.families import vae
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from img2img_worker.models.families.vae import to_pictures, to_unit
from img2img_worker.models.steps import Steps, run_now
from tests import checkpoints


@pytest.fixture(autouse=True)
def every_layer_is_a_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(vae, "LARGE", 1)
    with torch.inference_mode():
        yield


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


def test_in_full_precision_it_stays_though_others_are_on_their_way(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    whole, half = (family(tmp_path_factory, vae_dtype=each) for each in (torch.float32, torch.float16))
    latents = half.encode(PIXELS)
    large = latents * 1e5  # beyond what float16 can hold
    assert not half.decode(large).is_finite.any()
    (beside, repeated), _ = in_turns(
        pixels(half, latents, tiling=False), pixels(half, large, tiling=False, full_precision=True)
    )
    assert torch.equal(repeated, half.decode(large).pixels)
    for found, given in ((repeated, large), (beside, latents)):
        assert off(found, whole.decode(given).pixels) < 12  # its weights were rounded
    assert half.vae.network.dtype == torch.float32
    assert not half.decode(latents).is_half


def test_with_a_fixed_number_of_rows_only_what_overflows_is_made_in_full_precision(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    whole, half = (family(tmp_path_factory, vae_dtype=each) for each in (torch.float32, torch.float16))
    latents = half.encode(PIXELS)
    usual = half.decode(latents, rows=1)
    assert usual.is_half
    large = latents * 1e5
    beside = half.decode_steps(latents, rows=1)
    next(beside)
    repeated = run_now(half.decode_steps(large, rows=1, full_precision=True))
    assert off(repeated.pixels, whole.decode(large, rows=1).pixels) < 12
    assert not repeated.is_half
    assert half.vae.network.dtype == torch.float16
    assert torch.equal(run_now(beside).pixels, usual.pixels)


def test_an_encoding_that_overflows_is_made_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    for rows, then in ((1, torch.float16), (None, torch.float32)):
        whole, half = (family(tmp_path_factory, vae_dtype=each) for each in (torch.float32, torch.float16))
        for sd1 in (whole, half):
            sd1.vae.network.encoder.conv_in.weight.mul_(2**16)
            sd1.vae.network.encoder.conv_in.bias.fill_(6e4)  # the most that float16 holds is 65,504
        latents = whole.encode(PIXELS, rows=rows)
        assert (half.encode(PIXELS, rows=rows) - latents).abs().max() < 0.05 * latents.abs().max()
        assert half.vae.network.dtype == then


@pytest.mark.parametrize(
    ("device", "values", "expected"),
    [
        ("cpu", {}, (torch.float32, torch.float32)),
        ("cpu", {"dtype": "bfloat16"}, (torch.bfloat16, torch.float32)),
        ("cuda", {}, (torch.float16, torch.float16)),
        ("cuda", {"dtype": "bfloat16"}, (torch.bfloat16, torch.bfloat16)),
        ("cuda", {"deterministic": True}, (torch.float16, torch.float32)),
        ("cuda", {"deterministic": False, "vae_dtype": "float32"}, (torch.float16, torch.float32)),
        ("cuda", {"deterministic": True, "vae_dtype": "bfloat16"}, (torch.float16, torch.bfloat16)),
    ],
)
def test_a_vae_is_as_precise_as_its_model_where_that_serves_best(
    device: str, values: dict[str, Any], expected: tuple[torch.dtype, torch.dtype]
) -> None:
    assert precisions(Settings(**values), torch.device(device)) == expected


def off(one: Tensor, other: Tensor) -> int:
    return int((one.int() - other.int()).abs().max())


def pixels(
    sd1: StableDiffusion, latents: Tensor, *, tiling: bool, full_precision: bool = False
) -> Steps[Tensor]:
    decoded = yield from sd1.decode_steps(latents, tiling=tiling, full_precision=full_precision)
    return decoded.pixels


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
