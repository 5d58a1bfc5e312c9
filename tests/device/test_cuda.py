"""Networks and graphs on a GPU give the answers of torch's own layers, and of calls that are not recorded."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from img2img_shared.params import Params
from img2img_shared.prompt_tags import Lora
from img2img_worker.engine.engine import Engine
from img2img_worker.models.checkpoints import weights
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.call_graphs import MADE_FIRST
from img2img_worker.models.families.condition import Conditions
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from tests import checkpoints
from tests.checkpoints import embedded
from tests.unit.engine_toys import render
from tests.unit.loras import UNET, write_kinds, write_kohya

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.fixture(scope="module", params=[checkpoints.sd1, checkpoints.sdxl, checkpoints.sd2])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.cached(tmp_path_factory, request.param)


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.cached(tmp_path_factory, checkpoints.sd1)


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    """Convolutions of float32 in full precision, not in TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def opened(path: Path, dtype: torch.dtype = torch.float32, **more: Any) -> StableDiffusion:
    family = open_checkpoint(path, device="cuda", dtype=dtype, **more)
    assert isinstance(family, StableDiffusion)
    return family


def call(family: StableDiffusion, n: int, side: int = 64) -> tuple[Tensor, Tensor, Conditions]:
    generator = torch.Generator("cuda").manual_seed(n)
    x = torch.randn(n, family.latent_channels, side // 8, side // 8, device="cuda", generator=generator)
    params = Params(width=side, height=side)
    rows = [family.condition(embedded(family, ("a cat", "a dog", "")[i % 3]), params) for i in range(n)]
    return x, torch.linspace(20, 900, n, device="cuda"), Conditions.stack(rows)


@pytest.mark.parametrize("side", [64, 72, 136])
def test_networks_with_our_kernels_answer_like_those_with_torchs_layers(
    checkpoint: Path, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = opened(checkpoint)
    monkeypatch.setattr(weights, "fuse_layers", lambda _: None)
    torchs = opened(checkpoint)
    x, t, conditions = call(ours, 3, side)
    pixels = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert "forward" in vars(ours.unet.mid_block.resnets[0])
        assert "forward" not in vars(torchs.unet.mid_block.resnets[0])
        torch.testing.assert_close(
            ours.predict(x, t, conditions), torchs.predict(x, t, conditions), rtol=1e-3, atol=1e-3
        )
        torch.testing.assert_close(ours.encode(pixels), torchs.encode(pixels), rtol=1e-3, atol=1e-3)
        apart = ours.decode(x).pixels.int() - torchs.decode(x).pixels.int()
    assert int(apart.abs().max()) <= 1


@pytest.mark.parametrize("tiling", [False, True])
def test_a_recorded_call_has_the_same_bits_as_one_that_is_made(checkpoint: Path, tiling: bool) -> None:
    family = opened(checkpoint, torch.float16)
    graphs = family._graphs
    assert graphs is not None
    params = Params(width=64, height=64, tiling=tiling)
    rows = [family.condition(embedded(family, prompt), params) for prompt in ("a cat", "a " * 100)]

    def answer(number: int) -> Tensor:
        generator = torch.Generator("cuda").manual_seed(number)
        x = torch.randn(2, 4, 8, 8, device="cuda", generator=generator)
        return family.predict(x, torch.tensor([10.0, 500.0 + number]).cuda(), Conditions.stack(rows))

    made = [answer(number % 2) for number in range(MADE_FIRST)]
    assert len(graphs) == 0
    replayed = [answer(number % 2) for number in range(4)]
    assert len(graphs) == 1
    assert not torch.equal(made[0], made[1])
    for number, each in enumerate(replayed):
        assert torch.equal(each, made[number % 2])
    graphs.forget()
    assert len(graphs) == 0
    assert torch.equal(answer(0), made[0])


@pytest.mark.parametrize("float8", [False, True])
def test_a_recorded_call_uses_the_weights_that_are_merged_now(
    sd1: Path, tmp_path: Path, float8: bool
) -> None:
    plain = opened(sd1)
    write_kohya(tmp_path / "ink.safetensors", plain.unet.cpu(), UNET, seed=10)
    family = opened(sd1, lora_folder=tmp_path, float8=float8)
    patch = family.loras.find([Lora(name="ink")]).denoiser
    text, params = embedded(family, "a cat"), Params(width=64, height=64)
    x, t = torch.randn(2, 4, 8, 8, device="cuda"), torch.tensor([10.0, 500.0]).cuda()
    with_lora = Conditions.stack([family.condition(text, params, patch=patch)] * 2)
    without = Conditions.stack([family.condition(text, params)] * 2)
    first = [family.predict(x, t, each) for each in (without, with_lora)]
    assert not torch.allclose(first[0], first[1])
    for _ in range(MADE_FIRST + 1):
        again = [family.predict(x, t, each) for each in (without, with_lora)]
    assert family._graphs is not None
    assert len(family._graphs) == 1
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


def test_a_recorded_call_uses_the_loras_of_its_current_rows(sd1: Path, tmp_path: Path) -> None:
    plain = opened(sd1)
    layers = [
        name for name, module in plain.unet.cpu().named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    ]  # fmt: skip
    write_kinds(tmp_path / "ink.safetensors", plain.unet, dict.fromkeys(layers, "lora"), seed=1)
    write_kinds(tmp_path / "gold.safetensors", plain.unet, dict.fromkeys(layers[::2], "lora"), seed=900)
    family = opened(sd1, lora_folder=tmp_path)
    ink, gold = Lora(name="ink", unet_weight=0.1), Lora(name="gold", unet_weight=-0.07)
    of_rows = [(), (ink,), (gold,), (gold, ink), (ink,)]
    text, params = embedded(family, "a cat"), Params(width=64, height=64)
    x, t = torch.randn(5, 4, 8, 8, device="cuda"), torch.full((5,), 500.0, device="cuda")

    def answer(loras: Sequence[Sequence[Lora]], x: Tensor, *, by_row: bool) -> Tensor:
        patches = [family.loras.find(each, by_row=by_row).denoiser for each in loras]
        rows = [family.condition(text, params, patch=patch) for patch in patches]
        return family.predict(x, t[: len(x)], Conditions.stack(rows))

    orders = [of_rows, of_rows[::-1], [*of_rows[2:], *of_rows[:2]]]
    found = [answer(orders[number % 3], x, by_row=True) for number in range(MADE_FIRST + 6)]
    assert family._graphs is not None
    assert len(family._graphs) == 1
    for number, each in enumerate(found):
        for row, loras in enumerate(orders[number % 3]):
            merged = answer([loras], x[row : row + 1], by_row=False)[0]
            assert (each[row] - merged).abs().max() < 1e-3 * merged.abs().max()
    unlike = (found[0] - found[1]).abs().flatten(1).amax(1) / found[0].abs().max()
    assert sum(unlike > 1e-2) == 4  # all but the middle row's


def test_deterministic_pictures_do_not_depend_on_what_renders_beside_them(sd1: Path) -> None:
    family = opened(sd1, torch.float16)
    renders = [render(i, steps=8, denoising_strength=0.3 + 0.1 * (i % 7)) for i in range(9)]
    with Engine(family, slots=8, deterministic=True) as engine:
        together = [each.result(300) for each in [engine.submit(one) for one in renders]]
        alone = [engine.submit(one).result(300) for one in renders]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one, other)


def test_pictures_rendered_together_are_like_those_of_a_cpu(sd1: Path) -> None:
    on_gpu, on_cpu = opened(sd1), open_checkpoint(sd1)
    renders = [render(i, steps=8, denoising_strength=0.3 + 0.1 * (i % 7)) for i in range(6)]
    pictures = []
    for family in (on_gpu, on_cpu):
        with Engine(family, slots=4, deterministic=False) as engine:
            pictures.append([each.result(300) for each in [engine.submit(one) for one in renders]])
    for one, other in zip(*pictures, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 2


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is no second GPU here")
def test_pictures_of_a_second_gpu_are_like_those_of_a_cpu(sd1: Path) -> None:
    second = open_checkpoint(sd1, device="cuda:1")
    renders = [render(i, steps=8, denoising_strength=0.9) for i in range(6)]
    pictures = []
    for family in (second, open_checkpoint(sd1)):
        with Engine(family, slots=4, deterministic=False) as engine:
            pictures.append([each.result(300) for each in [engine.submit(one) for one in renders]])
    for one, other in zip(*pictures, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 2
