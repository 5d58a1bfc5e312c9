"""Which file a LoRA's name means, what of it is remembered, and which files are refused."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_shared.prompt_tags import Lora
from img2img_shared.settings import Settings
from img2img_worker.models.adapters.lora_file import read_lora
from img2img_worker.models.checkpoints.loading import load, open_checkpoint
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from tests import checkpoints
from tests.unit.loras import RANK, UNET, merge, write_kohya, write_peft


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.cached(tmp_path_factory, checkpoints.sd1)


def opened(path: Path, folder: Path | None = None) -> StableDiffusion:
    family = open_checkpoint(path, lora_folder=folder)
    assert isinstance(family, StableDiffusion)
    return family


def test_a_worker_finds_loras_below_its_folder_of_models(sd1: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny").symlink_to(sd1)
    write_kohya(tmp_path / "Lora" / "ink.safetensors", opened(sd1).unet, UNET[:1], seed=1)
    family = load("tiny", Settings(models_dir=tmp_path, device="cpu"))
    assert family.loras.find([Lora(name="ink")]).denoiser.key


def test_a_changed_file_is_another_lora(sd1: Path, tmp_path: Path) -> None:
    family = opened(sd1, tmp_path)
    path = tmp_path / "ink.safetensors"
    write_kohya(path, family.unet, UNET, seed=10)
    before = family.loras.find([Lora(name="ink")]).denoiser
    assert family.loras.find([Lora(name="ink")]).denoiser == before
    write_kohya(path, family.unet, UNET[:2], seed=11)
    merged = opened(sd1)
    merge(merged.unet, UNET[:2], seed=11, scale=1.0)
    after = family.loras.find([Lora(name="ink")]).denoiser
    assert after != before
    family.loras.denoiser.apply(before)
    family.loras.denoiser.apply(after)
    for name, weight in merged.unet.state_dict().items():
        torch.testing.assert_close(family.unet.state_dict()[name], weight, atol=1e-5, rtol=0)


def test_files_are_read_once_while_there_is_room(
    sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = opened(sd1, tmp_path)
    names = ("ink", "gold", "words")
    for name in names:
        size = write_kohya(tmp_path / f"{name}.safetensors", family.unet, UNET, seed=1).stat().st_size
    reads: list[str] = []

    def read(path: Path) -> Any:
        reads.append(path.stem)
        return read_lora(path)

    monkeypatch.setattr("img2img_worker.models.adapters.lora.read_lora", read)
    monkeypatch.setattr("img2img_worker.models.adapters.lora.REMEMBERED", 2 * size)
    family = opened(sd1, tmp_path)
    for name in ("ink", "gold", "ink", "gold", "words", "gold", "ink"):
        family.loras.find([Lora(name=name)])
    assert reads == ["ink", "gold", "words", "ink"]


def test_a_lora_is_found_by_the_name_that_its_trainer_gave_it(sd1: Path, tmp_path: Path) -> None:
    family = opened(sd1, tmp_path)
    for name, alias in (("ink", "gold"), ("v2-000010", "ink"), ("v3", "cloud")):
        path = write_kohya(tmp_path / f"{name}.safetensors", family.unet, UNET[:1], seed=len(name))
        save_file(load_file(path), path, metadata={"ss_output_name": alias})
    keys = {
        name: family.loras.find([Lora(name=name)]).denoiser.key[0][1:]
        for name in ("ink", "gold", "cloud", "v3")
    }
    assert keys["gold"] == keys["ink"]  # a file's own name comes first
    assert keys["cloud"] == keys["v3"] != keys["ink"]
    with pytest.raises(Refused, match="ink, v2-000010, v3"):
        family.loras.find([Lora(name="rain")])


def test_hashes_are_a1111s_by_the_names_in_the_prompt(sd1: Path, tmp_path: Path) -> None:
    family = opened(sd1, tmp_path)
    path = write_kohya(tmp_path / "ink.safetensors", family.unet, UNET[:1], seed=1)
    known = write_kohya(tmp_path / "gold.safetensors", family.unet, UNET[:1], seed=2)
    save_file(
        load_file(known), known, metadata={"sshs_model_hash": "0123456789abcdef", "ss_output_name": "oil"}
    )
    data = path.read_bytes()
    short = hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()[:12]
    prompt = "a <lora:oil:0.5> cat <lora:ink:1>, <lora:ink:0>"
    assert family.loras.hashes(prompt) == {"oil": "0123456789ab", "ink": short}
    # the header does not count, the numbers do
    save_file(load_file(path), path, metadata={"ss_tag_frequency": "{}"})
    assert family.loras.hashes("<lora:ink:1>") == {"ink": short}
    write_kohya(path, family.unet, UNET[:1], seed=3)
    assert family.loras.hashes("<lora:ink:1>")["ink"] != short
    with pytest.raises(Refused, match="'rain'"):
        family.loras.hashes("<lora:rain:1>")


def test_a_lora_that_is_not_there_is_refused_with_those_that_are(sd1: Path, tmp_path: Path) -> None:
    family = opened(sd1, tmp_path / "Lora")
    with pytest.raises(Refused, match=r"'ink': unknown LoRA; the workers have none"):
        family.loras.find([Lora(name="ink")])
    for name in ("gold", "words"):
        write_kohya(tmp_path / "Lora" / f"{name}.safetensors", family.unet, UNET[:1], seed=1)
    (tmp_path / "outside.safetensors").write_bytes((tmp_path / "Lora" / "gold.safetensors").read_bytes())
    for name in ("ink", "Gold", "../outside", str(tmp_path / "outside"), "gold.safetensors", ""):
        with pytest.raises(Refused, match=r"(Known are|use) gold, words$"):
            family.loras.find([Lora(name="gold"), Lora(name=name)])
    (tmp_path / "Lora" / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Refused, match=r"'gone': the file cannot be read"):
        family.loras.find([Lora(name="gone")])
    for number in range(30):
        (tmp_path / "Lora" / f"n{number}.safetensors").touch()
    with pytest.raises(Refused, match=r"and 3 more$"):
        family.loras.find([Lora(name="ink")])


def test_without_a_folder_of_models_the_setting_is_named(sd1: Path) -> None:
    with pytest.raises(Refused, match=r"'ink'.*IMG2IMG_MODELS_DIR"):
        opened(sd1).loras.find([Lora(name="ink")])


Weights = dict[str, Tensor]
KEY = UNET[1].kohya


def without_up(weights: Weights) -> Weights:
    return {key: value for key, value in weights.items() if key != f"{KEY}.lora_up.weight"}


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (without_up, r"needs lora_down\.weight and lora_up\.weight"),
        (lambda _: {}, "the file is empty"),
        (
            lambda _: {f"{KEY}.alpha": torch.tensor(4.0)},
            r"only lora_unet_\w+\.alpha; use one that has its weights",
        ),
        (
            lambda _: {
                f"{UNET[1].peft}.lora_A.weight": torch.ones(RANK, 64),
                f"{UNET[1].peft}.lora_B.weight": torch.ones(32, RANK),
                f"{UNET[1].peft}.lora_B.bias": torch.ones(32),
            },
            r"lora_B\.bias is a bias of PEFT's, which is not supported; use .* without lora_bias",
        ),
        (lambda weights: weights | {f"{KEY}.hada_w1_a": torch.ones(1)}, "hada_w1_a"),
        (lambda weights: weights | {f"{KEY}.dora_scale": torch.ones(1)}, r"dora_scale \[1\]"),
        (lambda weights: weights | {f"{KEY}.dora_scale": torch.ones(33, 1)}, r"dora_scale \[33, 1\]"),
        (lambda weights: weights | {f"{KEY}.bias": torch.ones(4, 4)}, r"bias \[4, 4\]"),
        (
            lambda weights: weights | {f"{KEY}.lora_up.weight": torch.ones(32, RANK + 1)},
            r"up.weight \[32, 4\]",
        ),
        (lambda weights: weights | {f"{KEY}.lora_up.weight": torch.tensor(1.0)}, "single numbers"),
        (lambda weights: weights | {f"{KEY}.lora_down.weight": torch.tensor(1.0)}, "single numbers"),
        (lambda weights: weights | {f"{KEY}.lora_down.weight": torch.ones(0, 64)}, "has rank 0"),
        (lambda weights: weights | {f"{KEY}.alpha": torch.ones(2)}, r"alpha has 2 numbers instead of one"),
        (lambda weights: weights | {f"{KEY}.alpha": torch.tensor(torch.nan)}, "finite"),
        (lambda weights: weights | {f"{KEY}.lora_up.weight": torch.full((32, RANK), torch.inf)}, "finite"),
        (lambda _: {f"{KEY}.diff": torch.ones(64, 32)}, "this kind of checkpoint"),
        (lambda _: {f"{KEY}.diff": torch.ones(32, 64), f"{KEY}.diff_b": torch.ones(32)}, "layer has none"),
        (
            lambda _: {
                "lora_unet_conv_in.diff": torch.ones(32, 4, 3, 3),
                "lora_unet_conv_in.diff_b": torch.ones(9),
            },
            r"one of \[32\]",
        ),
        (
            lambda weights: weights | {f"{UNET[1].peft}.lora_A.weight": torch.ones(RANK, 64)},
            "are one layer",
        ),
        (
            lambda weights: weights | {f"{KEY}.lora_up.weight": torch.ones(33, RANK)},
            "this kind of checkpoint",
        ),
        (
            lambda weights: {
                key.replace("attn2_to_k", "attn9_to_k"): value for key, value in weights.items()
            },
            "attn9_to_k",
        ),
    ],
)
def test_files_that_are_no_lora_for_this_checkpoint_are_refused(
    sd1: Path, tmp_path: Path, broken: Callable[[Weights], Weights], reason: str
) -> None:
    family = opened(sd1, tmp_path)
    path = write_kohya(tmp_path / "ink.safetensors", family.unet, UNET[:2], seed=1)
    save_file(broken(load_file(path)), path)
    with pytest.raises(Refused, match=reason) as refusal:
        family.loras.find([Lora(name="ink")])
    assert "'ink'" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("data", [b"", b"no tensors", b"\xff" * 200])
def test_a_broken_file_is_refused(sd1: Path, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "ink.safetensors").write_bytes(data)
    with pytest.raises(Refused, match=r"'ink': it cannot be read as \.safetensors"):
        opened(sd1, tmp_path).loras.find([Lora(name="ink")])


@pytest.mark.parametrize("metadata", ["[]", "{", '{"unet.lora_alpha": "much"}', '{"unet.alpha_pattern": 3}'])
def test_broken_metadata_is_refused(sd1: Path, tmp_path: Path, metadata: str) -> None:
    family = opened(sd1, tmp_path)
    write_peft(
        tmp_path / "ink.safetensors",
        family.unet,
        UNET,
        seed=1,
        metadata={"lora_adapter_metadata": metadata},
    )
    with pytest.raises(Refused, match="lora_adapter_metadata"):
        family.loras.find([Lora(name="ink")])
