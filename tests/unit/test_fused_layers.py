"""Kernels that cannot be made cost speed, and no picture. What they answer is shown in tests/device."""

import logging
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor

from img2img_worker.models.families import fused_layers
from img2img_worker.models.families.fused_layers import KERNELS, fuse_layers
from tests import checkpoints


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    fused_layers.kernels_on.cache_clear()
    yield
    fused_layers.kernels_on.cache_clear()


def test_without_a_compiler_layers_stay_torchs_and_the_log_says_it_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def summed(*_: Tensor) -> Tensor:
        raise RuntimeError("Failed to find C compiler.\nPlease specify one")

    kernels = ModuleType(KERNELS)
    monkeypatch.setattr(kernels, "summed", summed, raising=False)
    monkeypatch.setitem(sys.modules, KERNELS, kernels)
    network = checkpoints.vae(1).eval()
    latents = torch.randn(1, 4, 8, 8)
    with torch.inference_mode():
        before = network.decode(latents).sample
        with caplog.at_level(logging.WARNING):
            fuse_layers(network)
            fuse_layers(network)
        assert torch.equal(network.decode(latents).sample, before)
    (told,) = caplog.messages
    assert "(Failed to find C compiler.)" in told
    assert "gcc" in told


def test_a_shortage_of_memory_costs_no_kernels_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    is_short = True

    def summed(*_: Tensor) -> None:
        if is_short:
            raise torch.OutOfMemoryError("CUDA out of memory")

    kernels = ModuleType(KERNELS)
    monkeypatch.setattr(kernels, "summed", summed, raising=False)
    monkeypatch.setitem(sys.modules, KERNELS, kernels)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    network = checkpoints.vae(1)
    with pytest.raises(torch.OutOfMemoryError):
        fuse_layers(network)
    is_short = False
    fuse_layers(network)
    assert "forward" in vars(network.decoder.mid_block.resnets[0])
