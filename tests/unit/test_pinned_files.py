"""Files that a job means by names go before the folder's of these names, and share nothing with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from img2img_shared.params import Params
from img2img_shared.prompt_tags import Hypernetwork, Lora
from img2img_shared.pushed_models.pushed_model import ModelKind
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from img2img_worker.models.families.vaes import VaeFile
from img2img_worker.models.pinned_files import NOTHING_PINNED, PinnedFiles
from img2img_worker.models.prompts.prompt_options import PromptOptions
from img2img_worker.models.upscalers.upscaler_folders import upscaler_at
from img2img_worker.models.upscalers.upscalers import Upscalers
from tests import checkpoints
from tests import upscalers as tiny
from tests.checkpoints import WIDTH, embedded
from tests.original import write_original
from tests.unit import control_files, loras
from tests.unit.test_hypernetworks import plain
from tests.unit.test_hypernetworks import write as write_hypernetwork
from tests.unit.test_vaes import scaled, vae_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint's file, in a folder of models."""
    models = tmp_path_factory.mktemp("models")
    write_original(checkpoints.cached(tmp_path_factory, checkpoints.sd1), models / "mine.safetensors")
    return models


def opened(folder: Path) -> StableDiffusion:
    family = open_checkpoint(
        folder / "mine.safetensors",
        models_dir=folder,
        lora_folder=folder / "Lora",
        inversion_folders=(folder / "embeddings",),
        control_folders=(folder / "ControlNet",),
    )
    assert isinstance(family, StableDiffusion)
    return family


def pinned(kind: ModelKind, name: str, path: Path) -> PinnedFiles:
    return PinnedFiles(((kind, name, path),))


def test_a_lora(folder: Path, tmp_path: Path) -> None:
    family = opened(folder)
    (folder / "Lora").mkdir()
    loras.write_kohya(folder / "Lora" / "ink.safetensors", family.unet, loras.UNET, seed=1)
    other = loras.write_kohya(tmp_path / "ink.safetensors", family.unet, loras.UNET, seed=2)
    wanted = [Lora(name="ink")]
    of_folder = family.loras.find(wanted)
    meant = family.loras.find(wanted, pinned=pinned("lora", "ink", other))
    assert of_folder.denoiser != meant.denoiser
    assert meant.denoiser == family.loras.find([Lora(name="x")], pinned=pinned("lora", "x", other)).denoiser
    assert family.loras.find(wanted).denoiser == of_folder.denoiser


def test_a_vae(folder: Path, tmp_path: Path) -> None:
    family = opened(folder)
    own = vae_of(folder / "mine.safetensors")
    (folder / "VAE").mkdir()
    save_file(scaled(own, 0.8), folder / "VAE" / "soft.safetensors")
    save_file(scaled(own, 0.9), tmp_path / "soft.safetensors")
    params, meant = (
        Params(vae="soft.safetensors"),
        pinned("vae", "soft.safetensors", tmp_path / "soft.safetensors"),
    )
    found = [family.vaes.find(params, each).vae for each in (NOTHING_PINNED, meant)]
    weights = [_weights(family, file) for file in found]
    assert not torch.equal(*weights)
    assert torch.equal(weights[1], own["decoder.conv_in.weight"] * 0.9)
    told = [family.vaes.name_and_hash(params, each) for each in (NOTHING_PINNED, meant)]
    assert told[0] != told[1]


def _weights(family: StableDiffusion, file: VaeFile | None) -> Tensor:
    assert file is not None
    network: Any = family.vaes.get(file).network
    weight: Tensor = network.decoder.conv_in.weight
    return weight


def test_a_textual_inversion(folder: Path, tmp_path: Path) -> None:
    family = opened(folder)
    (folder / "embeddings").mkdir()
    for path, value in ((folder / "embeddings", 1.0), (tmp_path, 2.0)):
        save_file({"emb_params": torch.full((2, WIDTH), value)}, path / "cat.safetensors")
    options = PromptOptions(pinned=pinned("embedding", "cat", tmp_path / "cat.safetensors"))
    plain, meant = (embedded(family, "a cat", options=each).context for each in (PromptOptions(), options))
    assert not torch.equal(plain, meant)
    found = family.inversions.current(pinned=options.pinned)
    assert torch.equal(found.loaded["cat"].vectors[0], torch.full((2, WIDTH), 2.0))
    hashes = [
        dict(family.inversions.hashes(["a cat"], pinned=each))["cat"]
        for each in (NOTHING_PINNED, options.pinned)
    ]
    assert hashes[0] != hashes[1]
    assert torch.equal(embedded(family, "a cat").context, plain)


def test_a_hypernetwork(folder: Path, tmp_path: Path) -> None:
    family = opened(folder)
    for path in (folder / "hypernetworks" / "old.pt", tmp_path / "old.pt"):
        write_hypernetwork(path, {WIDTH: plain(WIDTH)}, activation_func="relu")
    wanted = [Hypernetwork(name="old")]
    meant = pinned("hypernetwork", "old", tmp_path / "old.pt")
    assert family.hypernetworks.find(wanted) != family.hypernetworks.find(wanted, meant)


def test_a_control_network(folder: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    family = opened(folder)
    source = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    (folder / "ControlNet").mkdir()
    for path, seed in ((folder / "ControlNet", 1), (tmp_path, 2)):
        control_files.write_original(control_files.control_net(source, seed), path / "canny.safetensors")
    first = family.controls.find("canny")
    second = family.controls.find("canny", pinned=pinned("control", "canny", tmp_path / "canny.safetensors"))
    assert first is not second
    assert family.controls.find("canny") is first


def test_an_upscaler(tmp_path: Path) -> None:
    tiny.save(tmp_path / "models" / "ESRGAN", "mine.pth", tiny.esrgan(seed=1))
    tiny.save(tmp_path / "models" / "ESRGAN", "other.pth", tiny.esrgan(seed=2))
    tiny.save(tmp_path / "cache", "mine.pth", tiny.esrgan(seed=2))
    upscalers = Upscalers(tmp_path / "models", torch.device("cpu"))
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8))

    def enlarged(name: str, meant: PinnedFiles = NOTHING_PINNED) -> bytes:
        return upscalers.enlarge(name, image, Params(), pinned=meant).tobytes()

    meant = pinned("upscaler", "mine", tmp_path / "cache" / "mine.pth")
    assert enlarged("mine", meant) == enlarged("other")
    assert enlarged("mine") != enlarged("other")


@pytest.mark.parametrize(
    ("name", "write", "folder"),
    [
        ("any.pth", tiny.swinir, "SwinIR"),
        ("any.pth", tiny.scunet, "ScuNET"),
        ("any.pth", tiny.esrgan, "ESRGAN"),
        ("RealESRGAN_x4plus.pth", tiny.esrgan, "RealESRGAN"),
    ],
)
def test_an_upscaler_is_run_as_in_the_folder_of_its_kind(
    name: str, write: Any, folder: str, tmp_path: Path
) -> None:
    weights: Mapping[str, Tensor] = write()
    tiny.save(tmp_path, name, dict(weights))
    assert upscaler_at(tmp_path / name).kind.folder == folder
