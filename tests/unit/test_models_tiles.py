"""A picture too large for the VAE goes through it in tiles that nobody sees."""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from img2img_worker.models.families.vae import to_unit
from img2img_worker.models.families.vae_layers import Layer, decoder_layers, encoder_layers
from img2img_worker.models.families.vae_tiling import impose_statistics, in_tiles, record_statistics, starts
from img2img_worker.models.steps import run_now
from tests import checkpoints


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def tiles(
    network: Callable[[Tensor], Tensor], batch: Tensor, *, tile: int, before: int, after: int
) -> Tensor:
    """What it makes of tiles that know nothing of each other."""
    return run_now(in_tiles(network, batch, tile=tile, before=before, after=after, norms=()))


def through(layers: Sequence[Layer], x: Tensor) -> Tensor:
    return reduce(lambda y, layer: layer(y), layers, x)


@pytest.mark.parametrize(("side", "tile"), [(33, 32), (64, 32), (257, 32), (40, 39), (100, 64)])
def test_tiles_cover_everything_and_overlap_by_a_quarter_at_least(side: int, tile: int) -> None:
    places = starts(side, tile)
    assert (places[0], places[-1]) == (0, side - tile)
    assert all(tile / 4 <= left + tile - right < tile for left, right in pairwise(places))


def test_what_fits_is_one_tile() -> None:
    assert starts(32, 32) == starts(5, 32) == [0]
    batch = torch.randn(2, 3, 64, 48)
    answer = tiles(lambda whole: whole + len(whole), batch, tile=8, before=8, after=1)
    assert torch.equal(answer, batch + 2)


@pytest.mark.parametrize("size", [(20, 11), (9, 33), (21, 21)])
def test_tiles_of_a_network_that_looks_at_single_cells_make_its_own_answer(size: tuple[int, int]) -> None:
    batch = torch.randn(2, 3, *(8 * side for side in size))
    down, up = F.avg_pool2d(batch, 8), F.interpolate(batch, scale_factor=8)
    tiled = tiles(lambda x: F.avg_pool2d(x, 8), batch, tile=8, before=8, after=1)
    assert torch.allclose(tiled, down, atol=1e-6)
    tiled = tiles(lambda x: F.interpolate(x, scale_factor=8), batch, tile=64, before=1, after=8)
    assert torch.allclose(tiled, up, atol=1e-6)


def test_a_norm_that_has_its_own_statistics_imposed_is_itself() -> None:
    norm = nn.GroupNorm(2, 6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    for x in (torch.randn(3, 6, 5, 7), torch.randn(2, 6, 9)):
        expected = norm(x)
        with record_statistics([norm]) as statistics:
            norm(x)
        with impose_statistics(statistics):
            assert torch.allclose(norm(x), expected, atol=1e-5)
            assert torch.allclose(norm(x[..., :3]), expected[..., :3], atol=1e-5)
        assert torch.equal(norm(x), expected)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.cached(tmp_path_factory, checkpoints.sd1)


def opened(folder: Path, vae_tile: int | None) -> StableDiffusion:
    family = open_checkpoint(folder, vae_tile=vae_tile)
    assert isinstance(family, StableDiffusion)
    return family


def test_up_to_a_tile_pictures_are_what_they_were_to_the_byte(folder: Path) -> None:
    pixels = torch.randint(0, 256, (1, 64, 48, 3), dtype=torch.uint8)
    whole, tiled = opened(folder, None), opened(folder, 64)
    latents = whole.encode(pixels)
    assert torch.equal(tiled.encode(pixels), latents)
    assert torch.equal(tiled.decode(latents).pixels, whole.decode(latents).pixels)


def test_no_call_sees_more_than_a_tile_and_the_whole_stays_nearer_than_without_its_statistics(
    folder: Path,
) -> None:
    coarse = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    smooth = F.interpolate(coarse, size=(160, 232), mode="bicubic").clamp(0, 1)
    pixels = (255 * smooth).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    whole, tiled = opened(folder, None), opened(folder, 128)
    vae = tiled.vae
    latents, image = whole.encode(pixels), to_unit(pixels, vae.device)
    layers = encoder_layers(vae.network)
    careless = tiles(lambda x: through(layers, x), image, tile=16, before=8, after=1) * vae._scale
    off, worse = ((each - latents).abs().mean() for each in (tiled.encode(pixels), careless))
    assert off < 0.75 * worse
    pictures = whole.decode(latents).pixels.float()
    layers = decoder_layers(vae.network)
    careless = tiles(lambda x: through(layers, x), latents / vae._scale, tile=16, before=1, after=8)
    careless = ((careless + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1) * 255
    seen: list[tuple[int, ...]] = []
    for network in (vae.network.encoder, vae.network.decoder):
        network.conv_in.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape[-2:])))
    off, worse = ((each - pictures).abs().mean() for each in (tiled.decode(latents).pixels, careless))
    assert off < 0.75 * worse
    tiled.encode(pixels)
    assert set(seen) == {(88, 128), (128, 128), (11, 16), (16, 16)}


def test_a_picture_does_not_depend_on_what_is_taken_through_with_it(folder: Path) -> None:
    family = opened(folder, 64)
    latents = torch.randn(3, 4, 12, 9, generator=torch.Generator().manual_seed(2))
    together = family.decode(latents, rows=1).pixels
    assert torch.equal(family.decode(latents[1:2], rows=1).pixels, together[1:2])
    assert (family.decode(latents).pixels.int() - together.int()).abs().max() <= 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision_a_picture_is_nearly_the_same(folder: Path, dtype: torch.dtype) -> None:
    whole, half = open_checkpoint(folder), open_checkpoint(folder, vae_dtype=dtype)
    pixels = torch.randint(
        0, 256, (1, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    wanted, found = (family.encode(pixels) for family in (whole, half))
    assert found.dtype == torch.float32
    assert 0 < (found - wanted).abs().max() < 0.05 * wanted.abs().max()
    pictures = [family.decode(wanted).pixels.int() for family in (whole, half)]
    assert (pictures[0] - pictures[1]).abs().max() < 12


def test_what_overflows_in_half_precision_says_so_and_is_made_again_in_full(folder: Path) -> None:
    whole, half = (open_checkpoint(folder, vae_dtype=each) for each in (torch.float32, torch.float16))
    for family in (whole, half):
        assert isinstance(family, StableDiffusion)
        # beyond what float16 holds, and back
        family.vae.network.decoder.conv_in.weight.mul_(2**10)
        family.vae.network.decoder.conv_in.bias.mul_(2**10)
    latents = 2**8 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    found = half.decode(latents)
    assert found.is_half
    assert not found.is_finite.any()
    found = run_now(half.decode_steps(latents, full_precision=True))
    assert (whole.decode(latents).pixels.int() - found.pixels.int()).abs().max() < 12
