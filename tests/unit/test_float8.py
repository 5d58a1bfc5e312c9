"""Weights in 8 bits: half of float16's memory, answers near those of all bits, and LoRAs as on any others."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_shared.prompt_tags import Lora
from img2img_worker.models.adapters.patched import MERGED_AFTER
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.condition import Condition, Conditions
from img2img_worker.models.float8 import FLOAT8, check_device, dequantized, quantized
from tests import checkpoints
from tests.checkpoints import cached, embedded
from tests.unit.loras import write_kinds

LORA = Lora(name="ink", unet_weight=0.5)
#: a linear layer, and a convolution
LAYERS = ("mid_block.attentions.0.transformer_blocks.0.attn1.to_q", "mid_block.resnets.0.conv1")


def opened(path: Path, **how: Any) -> Any:
    return open_checkpoint(path, **how)


def denoiser(family: Any) -> nn.Module:
    network: nn.Module = getattr(family, "unet", None) or family.transformer
    return network


def condition(family: Any, *loras: Lora, by_row: bool = False) -> Condition:
    patch = family.loras.find(loras, by_row=by_row).denoiser
    row: Condition = family.condition(embedded(family, "the cat"), Params(), patch=patch)
    return row


def answer(family: Any, row: Condition) -> Tensor:
    x = torch.randn(1, family.latent_channels, 8, 8, generator=torch.Generator().manual_seed(5))
    found: Tensor = family.predict(x, torch.full((1,), 500.0), Conditions.stack([row]))
    return found


def n_bytes(network: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in network.parameters())


def in_8_bits(network: nn.Module) -> Iterator[Tensor]:
    return (parameter for parameter in network.parameters() if parameter.dtype == FLOAT8)


def with_lora(factory: pytest.TempPathFactory, folder: Path, kind: str) -> Any:
    checkpoint = cached(factory, checkpoints.sd1)
    kinds = dict.fromkeys(LAYERS, kind)
    write_kinds(folder / "ink.safetensors", opened(checkpoint).unet, kinds, seed=1)
    return opened(checkpoint, float8=True, lora_folder=folder)


def test_whatever_the_size_of_a_row_its_numbers_are_as_precise() -> None:
    sizes = torch.tensor([1e-3, 0.02, 1.0, 300.0, 5000.0])
    weight = sizes[:, None] * torch.randn(5, 4000, generator=torch.Generator().manual_seed(1))
    found = dequantized(*quantized(weight))
    assert ((found - weight).norm(dim=1) / weight.norm(dim=1)).max() < 0.03
    zeros = torch.zeros(2, 3, 1, 1)
    assert torch.equal(dequantized(*quantized(zeros)), zeros)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_what_was_in_8_bits_comes_back_to_the_bit(dtype: torch.dtype) -> None:
    every = torch.arange(256, dtype=torch.uint8).view(FLOAT8).to(dtype)
    every = every[every.isfinite()]
    small = every[every.abs() < 1] * 2.0 ** torch.arange(-6, 1)[:, None].to(dtype)
    for rows in (every[None], small):
        numbers, scales = quantized(rows)
        assert numbers.dtype == FLOAT8
        assert torch.equal(dequantized(numbers, scales), rows)


@pytest.mark.parametrize("kind", ["sd1", "sdxl", "sd3", "flux_dev"])
def test_networks_answer_nearly_the_same_with_half_of_the_memory_of_half_precision(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = cached(tmp_path_factory, getattr(checkpoints, kind))
    family, plain = opened(path, float8=True), opened(path)
    row = condition(plain)
    found, wanted = answer(family, row), answer(plain, row)
    assert 0 < (found - wanted).norm() < 0.15 * wanted.norm()
    assert n_bytes(denoiser(family)) < 0.6 * n_bytes(denoiser(plain)) / 2
    texts = [text.model for text in (family.texts if hasattr(family, "texts") else (family.clip, family.t5))]
    assert all(list(in_8_bits(text)) for text in texts)
    assert condition(family).tensors["context"].isfinite().all()
    assert not list(in_8_bits(family.vae.network))


def test_a_file_in_8_bits_is_served_as_it_is(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = Path(shutil.copytree(cached(tmp_path_factory, checkpoints.sd1), tmp_path / "model"))
    file = path / "unet" / "diffusion_pytorch_model.safetensors"
    weights = {name: each.to(FLOAT8) if each.ndim > 1 else each for name, each in load_file(file).items()}
    save_file(weights, file)
    family, plain = opened(path, float8=True), opened(path)
    row = condition(plain)
    assert list(in_8_bits(family.unet))
    assert torch.equal(answer(family, row), answer(plain, row))


@pytest.mark.parametrize("kind", ["lora", "loha"])
def test_a_lora_that_is_merged_is_not_rounded_and_leaves_no_trace(
    kind: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    family = with_lora(tmp_path_factory, tmp_path, kind)
    plain, row = condition(family), condition(family, LORA)
    before, own = answer(family, plain), family.loras.denoiser.own_weights(family.unet)
    kept = {name: each.clone() for name, each in family.unet.state_dict().items()}
    assert not torch.equal(answer(family, row), before)
    assert family.loras.denoiser.changes_layers
    for name, layer in zip(row.patch.layers(), LAYERS, strict=True):
        wanted, _ = row.patch.apply_to(name, own[f"{layer}.weight"], None)
        assert torch.equal(family.unet.get_submodule(layer).weight, wanted)
    # control networks that are made of the checkpoint's weights know nothing of it
    found = family.loras.denoiser.own_weights(family.unet)
    assert all(torch.equal(found[name], each) for name, each in own.items())
    assert torch.equal(answer(family, plain), before)
    assert not family.loras.denoiser.changes_layers
    assert all(torch.equal(each, kept[name]) for name, each in family.unet.state_dict().items())


def test_a_lora_that_can_stay_beside_the_weights_never_takes_the_memory_of_precise_ones(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    family = with_lora(tmp_path_factory, tmp_path, "lora")
    layer: Any = family.unet.get_submodule(LAYERS[0])
    own, merged = layer.weight.clone(), answer(family, condition(family, LORA))
    row = condition(family, LORA, by_row=True)
    for _ in range(MERGED_AFTER + 1):
        found = answer(family, row)
    assert torch.equal(layer.weight, own)
    assert (found - merged).abs().max() < 1e-4 * merged.abs().max()


def test_weights_for_control_networks_have_the_names_and_precision_of_the_checkpoint(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = cached(tmp_path_factory, checkpoints.sd1)
    family, wanted = opened(path, float8=True), opened(path).unet.state_dict()
    found = family.loras.denoiser.own_weights(family.unet)
    assert {name: (each.shape, each.dtype) for name, each in found.items()} == {
        name: (each.shape, each.dtype) for name, each in wanted.items()
    }


def test_a_device_without_such_numbers_is_refused_with_a_way_out() -> None:
    with pytest.raises(
        Refused, match=r"weights_dtype is 'float8': mps does not support it.*leave IMG2IMG_WEIGHTS_DTYPE out"
    ):
        check_device(torch.device("mps"), compiles=False)
