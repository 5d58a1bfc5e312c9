"""A single file in the original layout is the same checkpoint as the diffusers folder it was made of."""

from collections.abc import Callable
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from img2img_shared.errors import Refused
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from img2img_worker.models.prompts import tokenizer
from tests import checkpoints
from tests.checkpoints import embedded
from tests.original import write_original

PROMPT = "the red cat, (a dog:1.3)"

Build = Callable[[Path], Path]
ALL: tuple[Build, ...] = (
    checkpoints.sd1,
    checkpoints.sd1_inpainting,
    checkpoints.edit,
    checkpoints.sd2,
    checkpoints.sdxl,
    checkpoints.sdxl_inpainting,
    checkpoints.sdxl_refiner,
)


@pytest.fixture(scope="module", params=ALL, ids=lambda build: build.__name__)
def layouts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = checkpoints.cached(tmp_path_factory, request.param)
    file = tmp_path_factory.mktemp(request.param.__name__) / "model.safetensors"
    return folder, write_original(folder, file)


def test_both_layouts_hold_the_same_networks(layouts: tuple[Path, Path]) -> None:
    folder, file = (_opened(path) for path in layouts)
    assert folder.name == file.name
    assert file.native_side == (
        1024 if file.name.startswith("SDXL") else 768 if file.prediction == "v" else 512
    )
    assert (folder.noise_levels.alphas_cumprod == file.noise_levels.alphas_cumprod).all()
    for ours, theirs in zip(_networks(folder), _networks(file), strict=True):
        _assert_equal(ours, theirs)
    assert folder.vae.network.config.scaling_factor == file.vae.network.config.scaling_factor
    wanted, found = embedded(folder, PROMPT), embedded(file, PROMPT)
    assert torch.equal(wanted.context, found.context)
    assert (wanted.pooled is None) == (found.pooled is None)
    assert wanted.pooled is None or found.pooled is None or torch.equal(wanted.pooled, found.pooled)


def test_configurations_follow_from_shapes(layouts: tuple[Path, Path]) -> None:
    folder, file = (_opened(path) for path in layouts)
    x, context = torch.ones(1, folder.unet.config.in_channels, 8, 8), folder.unet.config.cross_attention_dim
    pooled, sizes = (1, 5) if folder.is_xl_refiner else (2, 6)
    ones, ids = torch.ones(1, pooled * checkpoints.WIDTH), torch.full((1, sizes), 64.0)
    added = {"text_embeds": ones, "time_ids": ids}
    answers = [
        family.unet(x, torch.tensor([500.0]), torch.ones(1, 77, context), added_cond_kwargs=added).sample
        for family in (folder, file)
    ]
    assert torch.equal(*answers)
    assert torch.equal(folder.vae.network.decode(x[:, :4]).sample, file.vae.network.decode(x[:, :4]).sample)


def test_diffusers_reads_the_file_as_we_do(layouts: tuple[Path, Path]) -> None:
    folder, file = layouts
    if "refiner" in folder.name:
        return  # diffusers tells its tiny one from a base by its width
    kind = diffusers.StableDiffusionXLPipeline if "xl" in folder.name else diffusers.StableDiffusionPipeline
    pipeline = kind.from_single_file(str(file), config=str(folder), local_files_only=True)
    ours = _opened(file)
    _assert_equal(ours.unet, pipeline.unet)
    _assert_equal(ours.vae.network, pipeline.vae)
    _assert_equal(ours.texts[0].model, pipeline.text_encoder)
    if "xl" in folder.name:
        _assert_equal(ours.texts[1].model, pipeline.text_encoder_2)


@pytest.mark.parametrize("shape", [(), (1, 1, 1, 1, 1), (0, 4)], ids=["numbers", "five sides", "nothing"])
def test_shapes_that_no_reader_expects_are_refused(
    shape: tuple[int, ...], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    file = write_original(folder, tmp_path / "model.safetensors")
    save_file({key: torch.zeros(shape) for key in load_file(file)}, file)
    with pytest.raises(Refused, match="make no sense"):
        _opened(file)


@pytest.mark.parametrize(("level", "prediction"), [(-2.0, "v"), (1.0, "epsilon")])
def test_a_2x_file_is_asked_what_it_predicts(
    level: float, prediction: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = checkpoints.cached(tmp_path_factory, checkpoints.sd2)
    file = write_original(folder, tmp_path / "model.safetensors")
    weights = load_file(file)
    weights["model.diffusion_model.out.2.weight"] *= 0
    weights["model.diffusion_model.out.2.bias"].fill_(level)
    save_file(weights, file)
    assert _opened(file).prediction == prediction


def test_an_sdxl_file_says_itself_what_it_predicts(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = checkpoints.cached(tmp_path_factory, checkpoints.sdxl)
    file = write_original(folder, tmp_path / "model.safetensors")
    save_file(load_file(file) | {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}, file)
    family = _opened(file)
    assert family.prediction == "v"
    assert 4000 < family.noise_levels.sigma_max < 5000


@pytest.mark.parametrize(
    ("build", "name", "other"),
    [
        (checkpoints.sd1, "cond_stage_model.transformer.text_model.", "cond_stage_model.transformer."),
        (checkpoints.sd2, "cond_stage_model.model.", "conditioner.embedders.0.model."),
    ],
    ids=["the oldest 1.x", "SD Turbo"],
)
def test_other_names_of_a_text_encoder_are_understood(
    build: Build, name: str, other: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = write_original(checkpoints.cached(tmp_path_factory, build), tmp_path / "model.safetensors")
    wanted = embedded(_opened(file), PROMPT)
    save_file({key.replace(name, other): value for key, value in load_file(file).items()}, file)
    found = embedded(_opened(file), PROMPT)
    assert torch.equal(found.context, wanted.context)


def test_a_files_own_noise_levels_win(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    file = write_original(folder, tmp_path / "model.safetensors")
    save_file(load_file(file) | {"alphas_cumprod": torch.linspace(0.99, 0.01, 1000)}, file)
    assert _opened(file).noise_levels.sigma_max == pytest.approx(99**0.5)


def test_a_file_without_its_vae_is_refused(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    file = write_original(folder, tmp_path / "model.safetensors")
    kept = {key: value for key, value in load_file(file).items() if not key.startswith("first_stage_model.")}
    save_file(kept, file)
    with pytest.raises(Refused, match=r"it lacks first_stage_model\.\*"):
        open_checkpoint(file)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("lora_unet_down_blocks_0.alpha", "a LoRA"),
        ("depth_model.x", "a depth-to-image model"),
    ],
)
def test_other_kinds_of_file_are_refused_by_name(key: str, kind: str, tmp_path: Path) -> None:
    save_file({key: torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(Refused, match=f"this is {kind}; use"):
        open_checkpoint(tmp_path / "other.safetensors")


def test_clips_vocabulary_ships_with_the_package() -> None:
    # "a photo of a cat", as everyone's tokenizer for CLIP has it
    shipped = tokenizer.clip_tokenizer()
    assert shipped.tokenize(["a photo of a cat"]) == [[320, 1125, 539, 320, 2368]]
    assert (shipped.start, shipped.end, shipped.pad) == (49406, 49407, 49407)
    assert tokenizer.clip_tokenizer(pad="!").pad == 0
    assert len(shipped) == tokenizer.VOCABULARY


def _opened(path: Path) -> StableDiffusion:
    family = open_checkpoint(path)
    assert isinstance(family, StableDiffusion)
    return family


def _networks(family: StableDiffusion) -> list[nn.Module]:
    return [family.unet, family.vae.network, *(text.model for text in family.texts)]


def _assert_equal(ours: nn.Module, theirs: nn.Module) -> None:
    # transformers has it in the names of some of its text encoders' layers
    wanted = {key.removeprefix("text_model."): value for key, value in theirs.state_dict().items()}
    found = ours.state_dict()
    assert found.keys() == wanted.keys()
    assert [key for key in wanted if not torch.equal(wanted[key], found[key])] == []
