"""What a push takes along: what lies beside a checkpoint's file and belongs to it, or a folder."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from img2img_shared.checkpoints import files_of, sha256_of
from img2img_shared.errors import Refused
from img2img_shared.pushed_models.local_model import find_local, weights_in
from tests.checkpoints import cached, sd1
from tests.unit.control_files import control_net, write_diffusers

#: tensors' names of an SD 1 checkpoint, and of Flux with T5
SD1 = ("model.diffusion_model.x", "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight")
FLUX = ("model.diffusion_model.double_blocks.0.x", "text_encoders.t5xxl.transformer.shared.weight")


def write(path: Path, names: tuple[str, ...] = SD1, tokens: int = 49_408) -> Path:
    save_file(
        {name: torch.zeros(tokens if "token" in name else 1, 1, dtype=torch.uint8) for name in names}, path
    )
    return path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)


def test_what_belongs_to_a_checkpoint_goes_along(tmp_path: Path) -> None:
    beside = ("anime.yaml", "anime.vae.pt", "anime-2.vae.safetensors")
    others = (
        "other.yaml",
        "other.vae.pt",
        "anime.png",
        "anime.txt",
        "tokenizer/vocab.json",
        "tokenizer_t5/a.json",
    )
    touch(tmp_path, *beside, *others)
    local = find_local(write(tmp_path / "anime.safetensors"), None)
    assert (local.kind, local.name, local.ending) == ("checkpoint", "anime", ".safetensors")
    assert next(iter(local.files)) == "anime.safetensors"
    assert {*local.files} == {"anime.safetensors", *beside}
    renamed = {"manga.safetensors", "manga.yaml", "manga.vae.pt", "manga-2.vae.safetensors"}
    assert {*local.beside("manga")} == renamed


def test_vocabularies_go_with_checkpoints_that_need_them(tmp_path: Path) -> None:
    touch(tmp_path, "tokenizer/vocab.json", "tokenizer/.hidden", "tokenizer_t5/tokenizer.json")
    flux = find_local(write(tmp_path / "flux.safetensors", FLUX), None)
    assert [*flux.files] == ["flux.safetensors", "tokenizer_t5/tokenizer.json"]
    other = find_local(write(tmp_path / "other.safetensors", SD1, tokens=50_000), None)
    assert [*other.beside("tokens")] == ["tokens.safetensors", "tokenizer/vocab.json"]


def test_nothing_goes_with_a_lora(tmp_path: Path) -> None:
    touch(tmp_path, "ink.yaml", "ink.vae.pt")
    local = find_local(write(tmp_path / "ink.safetensors", ("lora_unet_x.lora_up.weight",)), None)
    assert [*local.files] == ["ink.safetensors"]


def test_a_folder_goes_whole(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cached(tmp_path_factory, sd1)
    local = find_local(folder, None)
    assert (local.kind, local.name, local.ending) == ("checkpoint", folder.name, "")
    assert (
        {*local.files}
        == {*files_of(folder)}
        > {"model_index.json", "unet/config.json", "tokenizer/tokenizer.json"}
    )
    monkeypatch.chdir(folder)
    assert find_local(Path(), None) == local


def test_what_is_hidden_in_a_folder_is_no_part_of_it(tmp_path: Path) -> None:
    touch(tmp_path, "model_index.json", "unet/config.json")
    before = sha256_of(tmp_path)
    touch(tmp_path, ".cache/a.json", "unet/.b.json")
    assert {*find_local(tmp_path, None).files} == {"model_index.json", "unet/config.json"}
    assert sha256_of(tmp_path) == before


def test_a_control_network_of_diffusers_is_called_as_its_folder(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path / "canny" / "diffusion_pytorch_model.safetensors"
    file.parent.mkdir()
    write_diffusers(control_net(cached(tmp_path_factory, sd1), 1), file)
    (file.parent / "config.json").write_text("{}")
    for path in (file, file.parent):
        local = find_local(path, None)
        assert (local.kind, local.name, local.ending) == ("control", "canny", "")
        assert {*local.files} == {"config.json", file.name}
    assert weights_in(file.parent) == weights_in(file) == file


def test_other_folders_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "ink.safetensors")
    with pytest.raises(
        Refused, match=r"give a file, or a folder as diffusers saves a checkpoint \(model_index"
    ):
        find_local(tmp_path, None)
    touch(tmp_path, "model_index.json")
    with pytest.raises(Refused, match="give a file, or a folder"):
        find_local(tmp_path, "lora")
    for name, reason in (
        ("missing.safetensors", "no such file"),
        ("model_index.json", "give a folder, or a file"),
    ):
        with pytest.raises(Refused, match=reason):
            find_local(tmp_path / name, None)


def test_what_is_not_there_is_told_to_be_that(tmp_path: Path) -> None:
    for name in ("anime", "anime.png", "anime.safetensors"):
        with pytest.raises(Refused, match="there is no such file"):
            find_local(tmp_path / name, None)
