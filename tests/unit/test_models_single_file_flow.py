"""SD 3 and Flux in one file are the same checkpoints as the diffusers folders that they were made of."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file, save_file

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_worker.models.checkpoints.key_mapping_flux import flux_name, flux_tensor
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.condition import Conditions
from tests import checkpoints
from tests.checkpoints import embedded
from tests.original_flow import write_original_flow

PROMPT = "the red cat, (a dog:1.3)"

Build = Callable[[Path], Path]
ALL: tuple[Build, ...] = (
    checkpoints.sd3,
    checkpoints.sd35,
    checkpoints.flux_dev,
    checkpoints.flux_schnell,
)


@pytest.fixture
def written(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of Flux that a test may spoil."""
    folder = checkpoints.cached(tmp_path_factory, checkpoints.flux_dev)
    return write_original_flow(folder, tmp_path / "model.safetensors")


@pytest.mark.parametrize("vae", ["first_stage_model.", "vae."])
@pytest.mark.parametrize("build", ALL, ids=lambda build: build.__name__)
def test_both_layouts_are_the_same_checkpoint(
    build: Build, vae: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # published SD 3s shift all sizes alike, and Flux from 256 patches on: no file says so
    path = Path(shutil.copytree(checkpoints.cached(tmp_path_factory, build), tmp_path / "folder"))
    folder: Any = open_checkpoint(_unprojected(path))
    file: Any = open_checkpoint(write_original_flow(path, tmp_path / "model.safetensors", vae=vae))
    assert file.name == folder.name
    assert file.distilled == folder.distilled
    wanted, found = embedded(folder, PROMPT), embedded(file, PROMPT)
    assert torch.equal(wanted.context, found.context)
    assert wanted.pooled is not None
    assert found.pooled is not None
    assert torch.equal(wanted.pooled, found.pooled)
    x = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    conditions = Conditions.stack([folder.condition(wanted, Params())])
    t = torch.tensor([700.0])
    assert torch.equal(folder.predict(x, t, conditions), file.predict(x, t, conditions))
    assert torch.equal(folder.decode(x).pixels, file.decode(x).pixels)
    pixels = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    assert torch.equal(folder.encode(pixels), file.encode(pixels))


@pytest.mark.parametrize(
    ("build", "small", "large"),
    [(checkpoints.sd3, 3.0, 3.0), (checkpoints.flux_dev, 1.6487, 3.1582), (checkpoints.flux_schnell, 1, 1)],
    ids=["sd3", "dev", "schnell"],
)
def test_a_file_has_its_kinds_published_levels(
    build: Build, small: float, large: float, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = checkpoints.cached(tmp_path_factory, build)
    family: Any = open_checkpoint(write_original_flow(folder, tmp_path / "model.safetensors"))
    assert family.shift.at(256) == pytest.approx(small, abs=1e-4)
    assert family.shift.at(4096) == pytest.approx(large, abs=1e-4)


def test_fluxs_names_are_those_that_diffusers_knows() -> None:
    # of the published width; a column of each matrix is enough
    with torch.device("meta"):
        network = FluxTransformer2DModel(num_layers=2, num_single_layers=1, guidance_embeds=True)
    rows: dict[str, int] = {}
    for key, value in network.state_dict().items():
        name, part = flux_name(key)
        rows[name] = rows.get(name, 0) + value.shape[0] if part is not None else value.shape[0]
    published = {name: torch.arange(n, dtype=torch.float32)[:, None] for name, n in rows.items()}
    theirs = convert_flux_transformer_checkpoint_to_diffusers(dict(published))
    ours = {key: flux_tensor(key, published[flux_name(key)[0]], width=3072) for key in network.state_dict()}
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def test_weights_of_8_bits_are_taken_as_numbers(written: Path) -> None:
    weights = load_file(written)
    small = {
        key: value.to(torch.float8_e4m3fn) if key.startswith("model.diffusion_model.") else value
        for key, value in weights.items()
    }
    save_file({key: value.to(weights[key].dtype) for key, value in small.items()}, written)
    wanted: Any = open_checkpoint(written)
    save_file(small, written)
    found: Any = open_checkpoint(written)
    assert found.transformer.dtype == torch.float32
    pairs = zip(wanted.transformer.parameters(), found.transformer.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", ""])
def test_a_transformer_alone_is_refused_with_what_it_lacks(prefix: str, written: Path) -> None:
    below = "model.diffusion_model."
    alone = {
        key.replace(below, prefix): value
        for key, value in load_file(written).items()
        if key.startswith(below)
    }
    save_file(alone, written)
    with pytest.raises(Refused) as refused:
        open_checkpoint(written)
    assert "use a diffusers folder of Flux, or a file that holds these too" in str(refused.value)
    lacks = "text_encoders.clip_l.transformer.*, text_encoders.t5xxl.transformer.*, first_stage_model.*"
    assert f"it lacks {lacks}; use" in str(refused.value)


def test_the_wanted_vocabulary_of_t5_is_named(written: Path) -> None:
    shutil.rmtree(written.parent / "tokenizer_t5")
    with pytest.raises(Refused, match=r"tokenizer_t5': put T5's tokenizer"):
        open_checkpoint(written)


def test_a_missing_weight_is_named(written: Path) -> None:
    weights = load_file(written)
    del weights["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"]
    save_file(weights, written)
    with pytest.raises(Refused, match=r"it lacks model.diffusion_model.double_blocks.0.img_attn.qkv"):
        open_checkpoint(written)


def _unprojected(folder: Path) -> Path:
    """SD 3's file holds no projection of its first text encoder's pooled state: it is the state itself."""
    path = folder / "text_encoder" / "model.safetensors"
    weights = load_file(path)
    if "text_projection.weight" in weights:
        size = weights["text_projection.weight"].shape[0]
        save_file(weights | {"text_projection.weight": torch.eye(size)}, path)
    return folder
