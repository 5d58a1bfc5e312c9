"""A VAE and a description beside a checkpoint's file hold, and are no checkpoints, as in A1111."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from img2img_shared.checkpoints import checkpoints_in
from img2img_shared.errors import Refused
from img2img_worker.models.checkpoints.catalog import find_model
from img2img_worker.models.checkpoints.loading import open_checkpoint
from tests import checkpoints
from tests.original import write_original

VAE = "first_stage_model."
V = "model:\n  params:\n    parameterization: v\n"


@pytest.fixture
def mine(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_original(
        checkpoints.cached(tmp_path_factory, checkpoints.sd1), tmp_path / "mine.safetensors"
    )


def write_vae(path: Path, like: Path, prefix: str = "") -> Path:
    own = {key: value for key, value in load_file(like).items() if key.startswith(VAE)}
    halved = {prefix + key.removeprefix(VAE): value * 0.5 for key, value in own.items()}
    save_file(halved | {"loss.logvar": torch.zeros(1), "model_ema.decay": torch.ones(1)}, path)
    return path


@pytest.mark.parametrize("name", ["mine.vae.safetensors", "mine-2.VAE.SafeTensors"])
def test_the_vae_beside_a_file_is_its_vae(name: str, mine: Path) -> None:
    latents = torch.ones(1, 4, 4, 4)
    baked: Any = open_checkpoint(mine)
    write_vae(mine.with_name(name), mine)
    found: Any = open_checkpoint(mine)
    for ours, theirs in zip(found.vae.network.parameters(), baked.vae.network.parameters(), strict=True):
        assert torch.equal(ours, theirs * 0.5)
    assert not torch.equal(found.decode(latents).pixels, baked.decode(latents).pixels)
    assert list(checkpoints_in(mine.parent)) == ["mine"]


def test_a_file_without_a_vae_takes_the_one_beside_it(mine: Path) -> None:
    write_vae(mine.with_suffix(".vae.safetensors"), mine, VAE)
    save_file({key: value for key, value in load_file(mine).items() if not key.startswith(VAE)}, mine)
    assert open_checkpoint(mine).name == "SD 1.x"


def test_a_pickled_vae_beside_a_file_is_read_without_running_it(mine: Path) -> None:
    path = write_vae(mine.with_suffix(".vae.safetensors"), mine)
    torch.save({"state_dict": load_file(path)}, mine.with_suffix(".vae.pt"))
    wanted: Any = open_checkpoint(mine)
    path.unlink()
    found: Any = open_checkpoint(mine)
    assert torch.equal(found.vae.network.decoder.conv_in.weight, wanted.vae.network.decoder.conv_in.weight)


def test_a_description_says_what_is_predicted_and_how_many_heads_there_are(mine: Path) -> None:
    described: Any = open_checkpoint(mine)
    assert (described.prediction, described.unet.config.attention_head_dim) == ("epsilon", 8)
    mine.with_suffix(".yaml").write_text(
        V + "    linear_start: 0.001\n    scale_factor: 0.2\n"
        "    unet_config:\n      params:\n        num_heads: -1\n        num_head_channels: 16\n"
    )
    described = open_checkpoint(mine)
    assert (described.prediction, described.unet.config.attention_head_dim) == ("v", [2, 4])
    assert described.vae.network.config.scaling_factor == 0.2
    assert described.noise_levels.alphas_cumprod[0] == pytest.approx(0.999)


def test_a_2x_file_with_8_heads_has_them(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = write_original(checkpoints.cached(tmp_path_factory, checkpoints.sd2), tmp_path / "two.safetensors")
    assert open_checkpoint(file).unet.config.attention_head_dim == [1, 1]  # type: ignore[attr-defined]
    heads = "    unet_config:\n      params:\n        num_heads: 8\n"
    file.with_suffix(".yaml").write_text(V + heads)
    family: Any = open_checkpoint(file)
    assert (family.prediction, family.unet.config.attention_head_dim) == ("v", 8)


def test_xls_description_says_what_is_predicted(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = write_original(checkpoints.cached(tmp_path_factory, checkpoints.sdxl), tmp_path / "xl.safetensors")
    file.with_suffix(".yaml").write_text(
        "model:\n  params:\n    denoiser_config:\n      params:\n        scaling_config:\n"
        "          target: sgm.modules.diffusionmodules.denoiser_scaling.VScaling\n"
    )
    assert open_checkpoint(file).prediction == "v"


@pytest.mark.parametrize("text", ["- no model", "model: 3", "model: {params: {parameterization: x0}}", "{"])
def test_a_description_that_is_none_is_refused(text: str, mine: Path) -> None:
    mine.with_suffix(".yaml").write_text(text)
    with pytest.raises(Refused, match=r"mine.yaml"):
        open_checkpoint(mine)


def test_checkpoints_are_found_in_folders_through_links_in_any_case_and_in_a1111s_tree(
    tmp_path: Path,
) -> None:
    away, models = tmp_path / "drive", tmp_path / "models"
    for path in (
        away / "Far.SafeTensors",
        models / "top.safetensors",
        models / "top.vae.safetensors",
        models / "anime" / "dream.safetensors",
        models / "anime" / "xl" / "model_index.json",
        models / "anime" / "xl" / "unet" / "diffusion_pytorch_model.safetensors",
        models / "Stable-diffusion" / "sub" / "deep.safetensors",
        models / "Lora" / "ink.safetensors",
        models / "VAE" / "other.safetensors",
        models / "embeddings" / "easy.safetensors",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (models / "link").symlink_to(away)
    (away / "round").symlink_to(models)
    found = checkpoints_in(models)
    assert list(found) == ["anime/dream", "anime/xl", "link/Far", "sub/deep", "top"]
    for name in ("anime/dream", "dream", "DREAM", "dream.safetensors"):
        assert find_model(name, models) == found["anime/dream"]
    shutil.copy(found["top"], models / "Stable-diffusion" / "dream.safetensors")
    with pytest.raises(Refused, match="one of anime/dream, dream"):
        find_model("Dream", models)
