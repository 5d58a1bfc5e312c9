"""Convolutions whose weights are packed answer as torch's own, and merged LoRAs leave no trace in them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from img2img_shared.params import Params
from img2img_shared.prompt_tags import Lora
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families import packed_convolutions
from img2img_worker.models.families.condition import Conditions
from img2img_worker.models.families.packed_convolutions import LEAST, pack_convolutions, unpack
from tests import checkpoints
from tests.checkpoints import embedded
from tests.unit.loras import UNET, write_kohya

INK = Lora(name="ink", unet_weight=0.7)


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def opened(sd1: Path, loras: Path | None, monkeypatch: pytest.MonkeyPatch, *, packs: bool) -> Any:
    """A small checkpoint, whose layers are all packed or none."""
    monkeypatch.setattr(packed_convolutions, "LEAST", 1 if packs else LEAST)
    return open_checkpoint(sd1, lora_folder=loras)


def answer(family: Any, *loras: Lora, tiling: bool = False) -> Tensor:
    patch = family.loras.find(loras, by_row=False).denoiser
    row = family.condition(embedded(family, "a red cat"), Params(tiling=tiling), patch=patch)
    x = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(3))
    found: Tensor = family.predict(x, torch.full((2,), 601.5), Conditions.stack([row, row]))
    return found


def packed_layers(network: nn.Module) -> int:
    return sum(weight.is_mkldnn for weight in network.parameters())


@pytest.fixture
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.cached(tmp_path_factory, checkpoints.sd1)


@pytest.mark.parametrize("tiling", [False, True])
def test_a_unet_whose_weights_are_packed_answers_as_with_plain_ones(
    tiling: bool, sd1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = opened(sd1, None, monkeypatch, packs=False)
    packed = opened(sd1, None, monkeypatch, packs=True)
    assert torch.allclose(answer(packed, tiling=tiling), answer(plain, tiling=tiling), atol=1e-4)
    large = [
        each for each in packed.unet.modules() if isinstance(each, nn.Conv2d) and each.kernel_size[0] > 1
    ]
    assert packed_layers(packed.unet) == len(large)
    assert packed_layers(plain.unet) == 0


def test_a_lora_that_was_merged_into_packed_weights_leaves_no_trace(
    sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = opened(sd1, tmp_path, monkeypatch, packs=False)
    packed = opened(sd1, tmp_path, monkeypatch, packs=True)
    write_kohya(tmp_path / "ink.safetensors", plain.unet, UNET, seed=10)
    before, changed = answer(packed), answer(packed, INK)
    assert torch.allclose(changed, answer(plain, INK), atol=1e-4)
    assert (changed - before).abs().max() > 1e-2
    own = packed.loras.denoiser.own_weights(packed.unet)
    assert torch.equal(answer(packed), before)
    assert torch.equal(answer(packed, INK), changed)
    wanted = opened(sd1, None, monkeypatch, packs=False).unet.state_dict()
    assert own.keys() == wanted.keys()
    assert all(torch.equal(own[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_large_layer_is_packed_and_holds_the_same_weights_once(dtype: torch.dtype) -> None:
    layer = nn.Conv2d(256, 256, 3, stride=2, padding=1, dtype=dtype).requires_grad_(False)
    small = nn.Conv2d(256, 4, 3, padding=1, dtype=dtype).requires_grad_(False)
    own, x = layer.weight.clone(), torch.randn(3, 256, 8, 8).to(dtype)
    wanted = small(layer(x))
    network = nn.Sequential(layer, small)
    pack_convolutions(network)
    assert torch.allclose(network(x), wanted, atol=1e-5 if dtype == torch.float32 else 0.05)
    assert torch.equal(unpack(layer.weight), own)
    assert not small.weight.is_mkldnn
