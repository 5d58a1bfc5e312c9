"""Textual inversions are found in prompts by their names' tokens and take their places, as in A1111."""

import base64
import hashlib
import json
import os
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file
from torch import Tensor, nn

from img2img_shared.errors import Refused
from img2img_shared.model_folders import files_below
from img2img_shared.prompt_tags import Lora
from img2img_shared.settings import Settings
from img2img_worker.engine.engine import Engine
from img2img_worker.farm.own_files import OwnFiles
from img2img_worker.models.checkpoints.loading import load, open_checkpoint
from img2img_worker.models.prompts import inversion_picture
from img2img_worker.models.prompts.chunks import CHUNK
from img2img_worker.models.prompts.prompt_options import PromptOptions
from img2img_worker.models.prompts.textual_inversion import inversion_folders
from img2img_worker.models.steps import run_now
from tests import checkpoints
from tests.faults.malicious_input import png
from tests.unit.test_vaes import render


def vectors(number: int, width: int = 64, seed: int = 1) -> Tensor:
    return torch.randn(number, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def family(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """SD 1.x with textual inversions of every kind of file."""
    folder = tmp_path / "embeddings"
    (folder / "sub").mkdir(parents=True)
    save_file({"emb_params": vectors(3)}, folder / "Three.safetensors")
    torch.save({"string_to_param": {"*": vectors(2)}, "name": "other", "step": 7}, folder / "My Style v1.pt")
    torch.save({"<token>": vectors(1)[0]}, folder / "sub" / "one.bin")
    save_file({"emb_params": vectors(75)}, folder / "full.safetensors")
    save_file({"emb_params": vectors(76)}, folder / "toolong.safetensors")
    save_file({"clip_l": vectors(2), "clip_g": vectors(2, 128)}, folder / "xl.safetensors")
    (folder / "broken.pt").write_bytes(b"no pickle")
    torch.save({"string_to_param": {"*": Path("harm")}}, folder / "code.pt")
    made = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    return open_checkpoint(made, inversion_folders=(folder,))


def inserted(family: Any, text: str, **options: Any) -> list[list[tuple[int, str]]]:
    """Of each chunk, the places and the names."""
    chunks = family.texts[0].chunks(text, PromptOptions(**options))
    return [[(place, inversion.name) for place, inversion in chunk.inserted] for chunk in chunks]


def test_files_that_fit_are_loaded_and_others_are_skipped_with_their_reason(family: Any) -> None:
    found = family.inversions.current()
    assert {name: each.length for name, each in found.loaded.items()} == {
        "My Style v1": 2,
        "Three": 3,
        "full": 75,
        "one": 1,
    }
    assert found.loaded["My Style v1"].step == 7
    assert found.skipped.keys() == {"toolong", "xl", "broken", "code"}
    assert found.skipped["toolong"].reason == "1 to 75 vectors are read, not 76"
    assert found.skipped["xl"].reason == "vectors of 64 and 128, and this checkpoint's are of 64"


def test_what_is_in_a_file_is_told_even_if_the_checkpoint_cannot_use_it(family: Any) -> None:
    nothing: Any = None
    told = OwnFiles(nothing, nothing, list).inversions(cast(Any, SimpleNamespace(family=family)))
    assert (told["Three"].shape, told["Three"].vectors, told["Three"].reason) == (64, 3, None)
    assert (told["xl"].shape, told["xl"].vectors, bool(told["xl"].reason)) == (64 + 128, 2, True)
    assert (told["broken"].shape, bool(told["broken"].reason)) == (0, True)


def test_those_that_only_others_have_are_found_in_prompts_as_own_ones_are(family: Any) -> None:
    names = ["Three", "my gold leaf", "leaf", "style"]
    lacking = family.inversions.lacking
    assert lacking(names, ["three, MY GOLD LEAF"]) == ["my gold leaf"]
    assert lacking(names, ["the my style v1, a (leaf:1.2)", "style"]) == ["leaf", "style"]
    assert lacking(names, ["leaflet three"]) == []
    assert lacking(["Three"], ["three"]) == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("three", [[(1, "Three")]]),
        ("THREE cat", [[(1, "Three")]]),
        ("the my style V1, three", [[(2, "My Style v1"), (5, "Three")]]),
        ("(one:1.3) one", [[(1, "one"), (2, "one")]]),
        ("thre e", [[]]),
        ("xl toolong", [[]]),
    ],
)
def test_a_name_is_found_by_its_tokens(family: Any, text: str, wanted: Any) -> None:
    assert inserted(family, text) == wanted


def test_what_would_cross_the_end_of_a_chunk_moves_whole_into_the_next(family: Any) -> None:
    assert inserted(family, "the " * (CHUNK - 3) + "three") == [[(CHUNK - 2, "Three")]]
    assert inserted(family, "the " * (CHUNK - 2) + "three the") == [[], [(1, "Three")]]
    assert inserted(family, "full full") == [[(1, "full")], [(1, "full")]]
    chunks = family.texts[0].chunks("the " * (CHUNK - 2) + "(three:2)", PromptOptions())
    assert chunks[0].weights == (1.0,) * (CHUNK + 2)
    assert chunks[1].weights[:5] == (1.0, 2.0, 2.0, 2.0, 1.0)


def test_what_follows_a_near_comma_moves_without_its_vectors(family: Any) -> None:
    text = "the " * (CHUNK - 6) + ", one three the the"
    assert inserted(family, text) == [[(CHUNK - 4, "one"), (CHUNK - 3, "Three")], []]
    moved = family.texts[0].chunks(text, PromptOptions())[1].tokens
    assert moved[1:5] == (0, 0, 0, 0)


def test_the_old_way_finds_them_too(family: Any) -> None:
    assert inserted(family, "the one three", use_old_emphasis_implementation=True) == [
        [(2, "one"), (3, "Three")]
    ]
    full = "the " * CHUNK
    assert inserted(family, f"{full} three", use_old_emphasis_implementation=True) == [[(CHUNK + 1, "Three")]]
    assert inserted(family, f"{full} the three", use_old_emphasis_implementation=True) == [[]]


def test_the_vectors_stand_where_the_words_embeddings_would(family: Any) -> None:
    """Those of known words, under a name of their own, read as the words themselves."""
    encoder = family.texts[0]
    words = encoder.tokenize("red cat")
    table = encoder.model.token_embedding.weight
    (folder,) = family.inversions._folders
    save_file({"emb_params": table[words].clone()}, folder / "zq.safetensors")
    (wanted,) = run_now(family.encode_prompts(["the (red cat:1.2) dog"]))
    (found,) = run_now(family.encode_prompts(["the (zq:1.2) dog"]))
    assert torch.allclose(found.context, wanted.context, atol=1e-6)
    (folder / "zq.safetensors").unlink()
    (without,) = run_now(family.encode_prompts(["the (zq:1.2) dog"]))
    assert not torch.allclose(without.context, wanted.context, atol=1e-3)


def test_each_of_xls_encoders_has_its_own(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    made = checkpoints.cached(tmp_path_factory, checkpoints.sdxl)
    family: Any = open_checkpoint(made, inversion_folders=(tmp_path,))
    tables = [text.model.token_embedding.weight for text in family.texts]
    words = family.texts[0].tokenize("red cat")
    parts = {name: table[words].clone() for name, table in zip(("clip_l", "clip_g"), tables, strict=True)}
    save_file(parts, tmp_path / "zq.safetensors")
    save_file({"emb_params": vectors(1)}, tmp_path / "small.safetensors")
    (wanted,), (found,) = (
        run_now(family.encode_prompts(["the red cat"])),
        run_now(family.encode_prompts(["the zq"])),
    )
    assert torch.allclose(found.context, wanted.context, atol=1e-6)
    assert found.pooled is not None
    assert torch.allclose(found.pooled, wanted.pooled, atol=1e-6)
    (small,) = family.inversions.current().skipped.values()
    assert small.reason == "vectors of 64, and this checkpoint's are of 64 and 128"
    names = [name for name, _ in family.inversions.hashes(["a zq"])]
    assert names == ["zq", "zq"], "A1111 tells it once for each text encoder"


def test_hashes_are_a1111s(family: Any) -> None:
    (folder,) = family.inversions._folders
    short = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in folder.rglob("*.*")}
    found = family.inversions.hashes(["(three:1.2), three", "one [my style v1]"])
    assert found == [(name, short[name]) for name in ("Three", "one", "My Style v1")]
    assert family.inversions.hashes(["the red cat"]) == []


def test_a_worker_looks_below_its_folder_of_models_and_beside_a1111s_tree(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "tiny").symlink_to(checkpoints.cached(tmp_path_factory, checkpoints.sd1))
    assert inversion_folders(models) == (models / "embeddings",)
    (models / "Stable-diffusion").mkdir()
    (tmp_path / "embeddings").mkdir()
    save_file({"emb_params": vectors(2)}, tmp_path / "embeddings" / "easy.safetensors")
    family: Any = load("tiny", Settings(models_dir=models, device="cpu"))
    assert list(family.inversions.current().loaded) == ["easy"]


def encoded(data: Any) -> bytes:
    """As A1111 writes it into a picture: a tensor as lists of numbers."""
    return json.dumps(data, default=lambda tensor: {"TORCHTENSOR": tensor.tolist()}).encode()


def in_pixels(data: Any, height: int = 24) -> Image.Image:
    """A picture between the two halves of the packed data, its low halves under A1111's own pattern."""
    packed = np.frombuffer(zlib.compress(encoded(data), 9), np.uint8)
    size = -(-packed.size // (3 * height)) * 3 * height
    halves = []
    for half in (packed & 0x0F, packed >> 4):
        pattern, seed = [], 0
        for _ in range(size):
            seed = (1664525 * seed + 1013904223) % 2**32
            pattern.append(seed % 255 & 0x0F)
        block = np.resize(half, size) ^ np.array(pattern, np.uint8)
        halves.append((block | 0xB0).reshape(height, -1, 3))
    black, shown = np.zeros((height, 1, 3), np.uint8), np.full((height, 30, 3), 201, np.uint8)
    return Image.fromarray(np.concatenate([halves[0], black, shown, black, halves[1]], 1))


def test_inversions_in_pictures_are_read_by_the_names_that_they_say(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = {"string_to_param": {"*": vectors(2)}, "step": 9}
    chunk = PngImagePlugin.PngInfo()
    chunk.add_text("sd-ti-embedding", base64.b64encode(encoded(data | {"name": "chunked"})).decode())
    plain = Image.new("RGB", (64, 24), (9, 80, 120))
    plain.save(tmp_path / "one.png", pnginfo=chunk)
    in_pixels(data | {"name": "inpixels"}).save(tmp_path / "two.png")
    in_pixels(data).save(tmp_path / "three.webp", lossless=True)
    in_pixels(data | {"name": "shown"}).save(tmp_path / "two.preview.png")
    plain.save(tmp_path / "plain.png")
    striped = np.full((24, 64, 3), 77, np.uint8)
    striped[:, [20, 40]] = 0  # as if there were data, and there is none
    Image.fromarray(striped).save(tmp_path / "striped.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (tmp_path / "bomb.png").write_bytes(png(60_000, 60_000))
    odd = PngImagePlugin.PngInfo()
    odd.add_text("sd-ti-embedding", base64.b64encode(b'{"TORCHTENSOR": [{}]}').decode())
    plain.save(tmp_path / "odd.png", pnginfo=odd)
    made = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    found = open_checkpoint(made, inversion_folders=(tmp_path,)).inversions.current()
    assert {name: each.step for name, each in found.loaded.items()} == {
        "chunked": 9,
        "inpixels": 9,
        "three": 9,
    }
    for each in found.loaded.values():
        assert torch.allclose(each.vectors[0], vectors(2))
    assert (
        found.loaded["chunked"].short_hash
        == hashlib.sha256((tmp_path / "one.png").read_bytes()).hexdigest()[:12]
    )
    assert found.skipped.keys() == {"broken", "bomb", "odd"}


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        ({"string_to_param": {"*": torch.zeros(1, 1).expand(10**5, 10**5)}}, "larger than the file"),
        (
            {
                "x": torch.sparse_coo_tensor(
                    torch.zeros(2, 1, dtype=torch.long), torch.ones(1), (9, 9), check_invariants=True
                )
            },
            "sparse",
        ),
        ({"x": torch.zeros(1, 64, device="meta")}, "without numbers"),
        ({"x": print}, "more than tensors"),
        ([[]], "not one textual inversion"),
    ],
)
def test_a_pickle_that_would_take_a_worker_down_is_skipped_with_its_reason(
    held: Any, reason: str, tmp_path: Path, family: Any
) -> None:
    if isinstance(held, list):
        held.append(held)  # it goes round
    path = tmp_path / "embeddings" / "hostile.pt"
    torch.save(held, path)
    found = family.inversions.current()
    assert reason in found.skipped["hostile"].reason
    assert found.loaded


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")  # whoever opened it would wait for ever
    (tmp_path / "zeros.pt").symlink_to("/dev/zero")
    (tmp_path / "sound.pt").touch()
    assert [path.name for path in files_below(tmp_path, (".pt",))] == ["sound.pt"]


def test_a_picture_that_unpacks_to_more_than_any_inversion_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inversion_picture, "_LONGEST", 1000)
    in_pixels({"string_to_param": {"*": vectors(2)}}).save(tmp_path / "x.png")
    assert inversion_picture.read_picture(tmp_path / "x.png") is None


def test_what_the_oldest_trainer_saved_is_read(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    parameters = nn.ParameterDict({"*": nn.Parameter(vectors(3))})
    torch.save(
        {"string_to_param": parameters, "string_to_token": {"*": torch.tensor(265)}}, tmp_path / "old.pt"
    )
    made = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    found = open_checkpoint(made, inversion_folders=(tmp_path,)).inversions.current()
    assert torch.equal(found.loaded["old"].vectors[0], vectors(3))


def test_those_that_come_with_a_lora_are_known_where_a_prompt_names_it(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tensors = {
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": torch.zeros(1, 64),
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight": torch.zeros(64, 1),
        "bundle_emb.zq.string_to_param.*": vectors(2),
        "bundle_emb.one.emb_params": vectors(1, seed=2),
        "bundle_emb.filed.emb_params": vectors(3),
    }
    (tmp_path / "loras").mkdir()
    (tmp_path / "embeddings").mkdir()
    save_file(tensors, tmp_path / "loras" / "ink.safetensors")
    save_file({"bundle_emb.wide.emb_params": vectors(2, 128)}, tmp_path / "loras" / "wide.safetensors")
    save_file({"emb_params": vectors(1)}, tmp_path / "embeddings" / "filed.safetensors")
    made = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    family: Any = open_checkpoint(
        made, lora_folder=tmp_path / "loras", inversion_folders=(tmp_path / "embeddings",)
    )
    text = "the zq, one, filed"
    assert [name for _, name in inserted(family, text)[0]] == ["filed"]
    bundles = family.loras.find([Lora(name="ink")]).bundles
    assert bundles == ("ink",)
    (found,) = inserted(family, text, bundles=bundles)
    assert found == [(2, "zq"), (5, "one"), (7, "filed")]
    short = hashlib.sha256((tmp_path / "embeddings" / "filed.safetensors").read_bytes()).hexdigest()[:12]
    assert family.inversions.hashes([text], bundles=["ink"]) == [
        ("zq", "ink"),
        ("one", "ink"),
        ("filed", short),
    ]
    with pytest.raises(Refused, match="textual inversion wide in it: vectors of 128"):
        family.inversions.current(["wide"])


def test_a_picture_with_such_a_lora_is_another_than_without_its_inversion(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    save_file({"bundle_emb.zq.emb_params": 3 * vectors(2)}, tmp_path / "ink.safetensors")
    family = open_checkpoint(checkpoints.cached(tmp_path_factory, checkpoints.sd1), lora_folder=tmp_path)
    with Engine(family, slots=3, deterministic=False) as engine:
        prompts = ("the zq <lora:ink:1>", "the zq ", "the zq <lora:ink:0>")
        futures = [engine.submit(replace(render(1), prompt=prompt)) for prompt in prompts]
        bundled, plain, unweighted = (future.result(120) for future in futures)
    assert not np.array_equal(bundled, plain)
    assert np.abs(bundled.astype(int) - unweighted.astype(int)).max() <= 1
