"""VAEs by name, and TAESD: found as A1111 finds them, read by demand, kept as long as there is room."""

import hashlib
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import load_file, save_file
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_worker.engine.engine import Engine, Pixels
from img2img_worker.engine.render import Render
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.checkpoints.vae_files import VaeFiles
from img2img_worker.models.families import vaes
from tests import checkpoints
from tests.original import write_original

PREFIX = "first_stage_model."


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``mine`` with VAEs of each kind of file, another one beside it, and TAESD's decoder."""
    folder = tmp_path_factory.mktemp("models")
    mine = write_original(checkpoints.cached(tmp_path_factory, checkpoints.sd1), folder / "mine.safetensors")
    own = vae_of(mine)
    (folder / "VAE" / "sub").mkdir(parents=True)
    save_file(scaled(own, 0.8), folder / "VAE" / "soft.safetensors")
    torch.save(
        {"state_dict": scaled(own, 0.9) | {"loss.logvar": torch.zeros(1)}}, folder / "VAE" / "old.ckpt"
    )
    torch.save(
        {f"{PREFIX}{key}": value for key, value in scaled(own, 1.1).items()},
        folder / "VAE" / "sub" / "Deep.pt",
    )
    save_file(scaled(own, 0.7), folder / "mine.vae.safetensors")
    (folder / "VAE-taesd").mkdir()
    write_tiny(folder / "VAE-taesd" / "taesd_decoder.pth", "decoder")
    return folder


def vae_of(checkpoint: Path) -> dict[str, Tensor]:
    weights = load_file(checkpoint)
    return {key.removeprefix(PREFIX): value for key, value in weights.items() if key.startswith(PREFIX)}


def scaled(weights: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
    return {key: value * factor for key, value in weights.items()}


def write_tiny(path: Path, half: str) -> AutoencoderTiny:
    """A half of TAESD as its author publishes it: a decoder counts the clamp before its first layer."""
    torch.manual_seed(5)
    network = AutoencoderTiny()
    shift = int(half == "decoder")
    weights = {}
    for key, value in getattr(network, half).state_dict().items():
        _, number, rest = key.split(".", 2)
        weights[f"{int(number) + shift}.{rest}"] = value
    torch.save(weights, path)
    return network


def opened(models: Path) -> Any:
    return open_checkpoint(models / "mine.safetensors", models_dir=models)


def render(number: int, **params: Any) -> Render:
    pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
    return Render(
        params=Params(width=64, height=64, steps=3, denoising_strength=0.7, **params),
        prompt="the cat",
        negative_prompt="",
        seed=number,
        subseed=0,
        latent_size=(8, 8),
        pixels=pixels,
    )


def test_they_are_found_by_their_files_names(models: Path) -> None:
    family = opened(models)
    assert family.vaes.names == ["mine.vae.safetensors", "old.ckpt", "Deep.pt", "soft.safetensors"]
    for name, factor in (("soft.safetensors", 0.8), ("old.ckpt", 0.9), ("Deep.pt", 1.1)):
        chosen = family.vaes.find(Params(vae=name))
        (first, *_), (own, *_) = (
            family.vaes.get(chosen.decoder).network.decoder.conv_in.parameters(),
            [vae_of(models / "mine.safetensors")["decoder.conv_in.weight"]],
        )
        assert torch.allclose(first, own * factor)
        short = hashlib.sha256(next(models.rglob(name)).read_bytes()).hexdigest()[:10]
        assert family.vaes.name_and_hash(Params(vae=name)) == (name, short)


def test_automatic_is_the_one_that_is_called_as_the_checkpoint_and_none_its_own(models: Path) -> None:
    family = opened(models)
    own = vae_of(models / "mine.safetensors")["decoder.conv_in.weight"]
    assert torch.allclose(family.vae.network.decoder.conv_in.weight, own * 0.7)
    assert family.vaes.find(Params()) == vaes.VaeChoice()
    assert family.vaes.find(Params(vae="mine.vae.safetensors")) == vaes.VaeChoice()
    assert family.vaes.name_and_hash(Params())[0] == "mine.vae.safetensors"
    kept = {"sd_vae_overrides_per_model_preferences": False}
    assert family.vaes.find(Params(vae="soft.safetensors", **kept)) == vaes.VaeChoice()
    assert family.vaes.name_and_hash(Params(vae="None", **kept))[0] == "mine.vae.safetensors"
    none = family.vaes.find(Params(vae="None"))
    assert torch.equal(family.vaes.get(none.decoder).network.decoder.conv_in.weight, own)
    assert family.vaes.name_and_hash(Params(vae="None")) is None


def test_a_name_is_looked_for_as_a1111_does(tmp_path: Path) -> None:
    for name in ("a.safetensors", "ab.vae.safetensors", "sub/ab.vae.pt", "VAE/abc.safetensors", "VAE/z.ckpt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files = VaeFiles(models_dir=tmp_path, checkpoint=tmp_path / "a.safetensors")
    assert list(files.by_name()) == ["ab.vae.pt", "ab.vae.safetensors", "z.ckpt", "abc.safetensors"]
    assert files.automatic() == tmp_path / "ab.vae.safetensors"
    other = VaeFiles(models_dir=tmp_path, checkpoint=tmp_path / "VAE" / "z.safetensors")
    assert other.automatic() == tmp_path / "VAE" / "z.ckpt"
    assert VaeFiles(models_dir=tmp_path, checkpoint=tmp_path / "q.safetensors").automatic() is None


def test_pictures_of_different_vaes_share_model_calls(models: Path) -> None:
    family = opened(models)
    names = ("Automatic", "None", "soft.safetensors", "old.ckpt")
    with Engine(family, slots=5, deterministic=False) as engine:
        alone = [engine.submit(render(1, vae=name)).result(120) for name in names]
        calls = engine.counts.calls
        futures = held(engine, [render(1, vae=name) for name in names])
        together = [future.result(120) for future in futures]
        # as many as one image has, and those of the first one, which waited for the others
        assert engine.counts.calls - calls <= 2 * calls // len(names)
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1
    assert len({picture.tobytes() for picture in alone}) == len(names)


def held(engine: Engine, renders: list[Render]) -> list[Future[Pixels]]:
    """Submitted so that all are there before the second model call of the first."""
    futures: list[Future[Pixels]] = []

    def join(done: int, _total: int) -> None:
        if done == 1:
            futures.extend(engine.submit(each) for each in renders)

    first = engine.submit(render(9), join)
    first.result(120)
    return futures


def test_in_deterministic_mode_its_bytes_are_the_same_in_any_company(models: Path) -> None:
    with Engine(opened(models), slots=3, deterministic=True) as engine:
        alone = engine.submit(render(1, vae="soft.safetensors")).result(120)
        futures = [engine.submit(render(1, vae=name)) for name in ("None", "soft.safetensors", "Automatic")]
        assert np.array_equal(futures[1].result(120), alone)


def test_the_least_recently_used_goes_first(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = opened(models)
    files = [family.vaes.find(Params(vae=name)).decoder for name in ("soft.safetensors", "old.ckpt")]
    one = family.vaes.get(files[0])
    assert family.vaes.get(files[0]) is one
    size = sum(weight.nbytes for weight in one.network.parameters())
    monkeypatch.setattr(vaes, "REMEMBERED", 2 * size)
    family.vaes.find(Params(vae="Deep.pt"))
    assert family.vaes.get(files[0]) is one
    assert len(family.vaes._loaded) == 2
    family.vaes.find(Params(vae="old.ckpt"))
    assert family.vaes.get(files[0]) is one


def test_what_is_not_there_or_does_not_fit_is_refused_by_name(models: Path, tmp_path: Path) -> None:
    own = vae_of(models / "mine.safetensors")
    (tmp_path / "VAE").mkdir()
    bad = {
        "left": own | {"control.weight": torch.ones(1)},
        "lacks": {key: value for key, value in own.items() if key != "decoder.conv_out.weight"},
        "wide": own
        | {
            "post_quant_conv.weight": torch.ones(16, 16, 1, 1),
            "post_quant_conv.bias": torch.ones(16),
            "quant_conv.weight": torch.ones(32, 32, 1, 1),
            "quant_conv.bias": torch.ones(32),
            "decoder.conv_in.weight": torch.ones(32, 16, 3, 3),
            "encoder.conv_out.weight": torch.ones(32, 32, 3, 3),
            "encoder.conv_out.bias": torch.ones(32),
        },
    }
    for name, weights in bad.items():
        save_file(weights, tmp_path / "VAE" / f"{name}.safetensors")
    (tmp_path / "VAE" / "broken.pt").write_bytes(b"no pickle")
    flat = {key: torch.zeros(3) for key in own}
    save_file(flat, tmp_path / "VAE" / "flat.safetensors")
    renamed = AutoencoderKL(block_out_channels=(32,), norm_num_groups=32).state_dict()
    save_file(renamed, tmp_path / "VAE" / "renamed.safetensors")
    family = open_checkpoint(models / "mine.safetensors", models_dir=tmp_path)
    for name, reason in {
        "left.safetensors": "nothing here uses first_stage_model.control.weight",
        "lacks.safetensors": "it lacks first_stage_model.decoder.conv_out.weight",
        "wide.safetensors": "its latents have 16 channels and cells of 8 pixels; use a VAE with 4 channels",
        "broken.pt": "it cannot be read as tensors",
        "flat.safetensors": "not those of a VAE in the original layout",
        "renamed.safetensors": "not those of a VAE in the original layout",
        "soft": "Automatic, None, broken.pt, flat.safetensors",
    }.items():
        with pytest.raises(Refused, match=reason) as refused:
            family.vaes.find(Params(vae=name))
        assert refused.value.field == "vae"


def test_a_file_that_was_changed_is_read_again(models: Path, tmp_path: Path) -> None:
    (tmp_path / "VAE").mkdir()
    own = vae_of(models / "mine.safetensors")
    save_file(own, tmp_path / "VAE" / "x.safetensors")
    family: Any = open_checkpoint(models / "mine.safetensors", models_dir=tmp_path)
    before = family.vaes.find(Params(vae="x.safetensors"))
    save_file(scaled(own, 0.5) | {"loss.more": torch.ones(2)}, tmp_path / "VAE" / "x.safetensors")
    after = family.vaes.find(Params(vae="x.safetensors"))
    assert before != after
    assert torch.equal(
        family.vaes.get(after.decoder).network.decoder.conv_in.weight, own["decoder.conv_in.weight"] * 0.5
    )


def test_taesd_decodes_what_diffusers_own_does(models: Path, tmp_path: Path) -> None:
    family = opened(models)
    chosen = family.vaes.find(Params(sd_vae_decode_method="TAESD"))
    assert (chosen.vae, chosen.encoder) == (None, None)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = write_tiny(tmp_path / "x.pth", "decoder").decode(latents).sample
    pixels = family.decode(latents, vae=chosen.decoder).pixels
    assert torch.equal(pixels, ((wanted / 2 + 0.5).clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1))


def test_taesd_encodes_as_diffusers_own_does(models: Path, tmp_path: Path) -> None:
    (tmp_path / "VAE-taesd").mkdir()
    network = write_tiny(tmp_path / "VAE-taesd" / "taesd_encoder.pth", "encoder")
    family: Any = open_checkpoint(models / "mine.safetensors", models_dir=tmp_path)
    chosen = family.vaes.find(Params(sd_vae_encode_method="TAESD"))
    pixels = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        wanted = network.encode(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).latents
    assert torch.allclose(family.encode(pixels, vae=chosen.encoder), wanted, atol=1e-5)


def test_taesd_shows_a_picture_under_way_at_its_full_size(models: Path) -> None:
    family, glances, is_known = opened(models), list[Future[Pixels]](), threading.Event()
    with Engine(family, slots=1) as engine:

        def look(done: int, _total: int) -> None:
            is_known.wait()
            if done == 2:
                glances.append(engine.estimate(future))

        wanted = render(1, sd_vae_decode_method="TAESD", show_progress_type="TAESD")
        future = engine.submit(wanted, look)
        is_known.set()
        picture = future.result(120)
    (glance,) = glances
    # as far as its last model call but one has it
    assert glance.result(120).shape == picture.shape == (64, 64, 3)
    assert not np.array_equal(glance.result(120), picture)


def test_taesd_that_is_not_there_is_refused_with_the_file_that_is_missing(models: Path) -> None:
    with pytest.raises(Refused, match=r"VAE-taesd/taesd_encoder\.pth") as refused:
        opened(models).vaes.find(Params(sd_vae_encode_method="TAESD"))
    assert refused.value.field == "sd_vae_encode_method"


def test_previews_by_taesd_want_its_file_too(models: Path, tmp_path: Path) -> None:
    family: Any = open_checkpoint(models / "mine.safetensors", models_dir=tmp_path)
    with pytest.raises(Refused, match=r"VAE-taesd/taesd_decoder\.pth") as refused:
        family.vaes.find(Params(show_progress_type="TAESD"))
    assert refused.value.field == "show_progress_type"
