"""A loaded Stable Diffusion checkpoint answers as diffusers' own parts do."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from img2img_shared.params import Params
from img2img_worker.engine.engine import Engine
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.condition import Conditions
from img2img_worker.models.families.family import Family
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from tests import checkpoints
from tests.checkpoints import embedded
from tests.unit.engine_toys import render


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.cached(tmp_path_factory, checkpoints.sd1)


@pytest.fixture(scope="module")
def family(folder: Path) -> Family:
    return open_checkpoint(folder)


def conditions(family: Family, *prompts: str) -> Conditions:
    return Conditions.stack([family.condition(embedded(family, prompt), Params()) for prompt in prompts])


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(n: int, size: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (n, size, size, 3), generator=generator, dtype=torch.uint8)


def test_the_answer_is_the_unets_own(family: Family, folder: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False)
    rows = conditions(family, "a red cat", "the dog")
    x, t = noise(2, 4, 8, 8), torch.tensor([901.0, 33.0])
    with torch.no_grad():
        wanted = unet(x, t, encoder_hidden_states=rows.context).sample
    answer = family.predict(x, t, rows)
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, wanted)


def test_a_fraction_of_a_timestep_counts(family: Family) -> None:
    cond = conditions(family, *["cat"] * 3)
    x = noise(1, 4, 8, 8).expand(3, -1, -1, -1)
    low, half, high = family.predict(x, torch.tensor([500.0, 500.5, 501.0]), cond)
    step = (high - low).norm()
    assert (half - low).norm() > 0.3 * step
    assert (high - half).norm() > 0.3 * step


def test_latents_are_the_scaled_mean_of_the_posterior(family: Family, folder: Path) -> None:
    vae = AutoencoderKL.from_pretrained(folder / "vae", low_cpu_mem_usage=False)
    pixels = pictures(2)
    with torch.no_grad():
        posterior = vae.encode(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist
    torch.testing.assert_close(family.encode(pixels), posterior.mean * 0.18215, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("grey", [0, 200, 255])
def test_a_flat_picture_is_encoded_as_exactly_as_any(family: Family, folder: Path, grey: int) -> None:
    vae = AutoencoderKL.from_pretrained(folder / "vae", low_cpu_mem_usage=False).double()
    pixels = torch.full((1, 64, 64, 3), grey, dtype=torch.uint8)
    with torch.no_grad():
        mean = vae.encode(pixels.permute(0, 3, 1, 2).double() / 127.5 - 1).latent_dist.mean
    torch.testing.assert_close(family.encode(pixels), (mean * 0.18215).float(), atol=1e-4, rtol=1e-4)


def test_decoded_pixels_are_truncated(family: Family, folder: Path) -> None:
    vae = AutoencoderKL.from_pretrained(folder / "vae", low_cpu_mem_usage=False)
    latents = noise(2, 4, 8, 8)
    with torch.no_grad():
        picture = vae.decode(latents / 0.18215).sample.permute(0, 2, 3, 1)
    wanted = torch.floor(((picture + 1) / 2).clamp(0, 1) * 255).to(torch.uint8)
    decoded = family.decode(latents).pixels
    assert decoded.shape == (2, 64, 64, 3)
    assert len(torch.unique(decoded)) > 100
    assert (decoded != wanted).float().mean() < 1e-3


def test_a_picture_does_not_depend_on_its_neighbours_at_a_constant_row_count(family: Family) -> None:
    pixels = pictures(3)
    together = family.encode(pixels, rows=2)
    for index in range(3):
        alone = family.encode(pixels[index : index + 1], rows=2)
        assert torch.equal(alone[0], together[index])
        decoded = family.decode(alone, rows=2).pixels
        assert torch.equal(decoded[0], family.decode(together, rows=2).pixels[index])


def test_a_checkpoint_loaded_twice_has_equal_weights(family: Family, folder: Path) -> None:
    cond = conditions(family, "a cat")
    x, t = noise(1, 4, 8, 8), torch.tensor([500.0])
    assert torch.equal(open_checkpoint(folder).predict(x, t, cond), family.predict(x, t, cond))


def test_its_noise_levels_are_those_of_stable_diffusion(family: Family) -> None:
    assert family.levels((8, 8)).sigma_min == pytest.approx(0.0291675, abs=1e-7)
    assert family.levels((8, 8)).sigma_max == pytest.approx(14.614642, abs=1e-5)


def test_half_precision_keeps_timesteps_and_pictures_apart(folder: Path) -> None:
    family = open_checkpoint(folder, dtype=torch.bfloat16)
    cond = conditions(family, "cat", "cat")
    x = noise(1, 4, 8, 8).expand(2, -1, -1, -1)
    # bfloat16 has no number between 500 and 502
    low, high = family.predict(x, torch.tensor([500.0, 500.9]), cond)
    assert low.dtype == torch.float32
    assert not torch.equal(low, high)
    assert torch.equal(family.encode(pictures(1)), open_checkpoint(folder).encode(pictures(1)))


def test_old_names_of_a_vaes_attention_are_understood(folder: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(folder, tmp_path / "old"))
    file = old / "vae" / "diffusion_pytorch_model.safetensors"
    names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    weights = load_file(file)
    for new, name in names.items():
        weights = {key.replace(new, name): value for key, value in weights.items()}
    save_file(weights, file)
    assert torch.equal(open_checkpoint(old).encode(pictures(1)), open_checkpoint(folder).encode(pictures(1)))


@torch.inference_mode()
def test_a_gpus_layout_of_the_weights_changes_a_picture_by_rounding_only(
    family: Family, folder: Path
) -> None:
    other = open_checkpoint(folder)
    assert isinstance(other, StableDiffusion)
    for network in (other.unet, other.vae.network):
        network.to(memory_format=torch.channels_last)
    latents = family.encode(pictures(2))
    cond = conditions(family, "a cat", "a cat")
    t = torch.tensor([500.0, 20.0])
    assert torch.allclose(other.encode(pictures(2)), latents, atol=1e-4)
    assert torch.allclose(other.predict(latents, t, cond), family.predict(latents, t, cond), atol=1e-4)
    assert (other.decode(latents).pixels.int() - family.decode(latents).pixels.int()).abs().max() <= 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_renders_nearly_the_same_picture(folder: Path, dtype: torch.dtype) -> None:
    each = render(1, prompt="the cat", steps=4)
    with Engine(open_checkpoint(folder)) as engine:
        full = engine.submit(each).result(60).astype(int)
    with Engine(open_checkpoint(folder, dtype=dtype)) as engine:
        half = engine.submit(each).result(60)
    assert 0 < abs(half - full).mean() < 6
