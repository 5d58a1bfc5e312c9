"""Tiny upscalers with seeded weights, in the layouts of published ones: real networks, small sizes."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from img2img_worker.models.upscalers.spandrel_import import spandrel


def esrgan(*, seed: int = 1, scale: int = 4) -> dict[str, Tensor]:
    """RRDBNet, 8 features, one block."""
    network = _architectures().ESRGAN.ESRGAN
    weights = _weights(network(num_filters=8, num_blocks=1, scale=scale), seed)
    *_, last, bias = weights
    # from the middle of a picture's range: otherwise most values would be clipped at black
    return {**weights, last: weights[last] / 2, bias: torch.full((3,), 0.5)}


def swinir(*, seed: int = 2, scale: int = 2) -> dict[str, Tensor]:
    """SwinIR, 8 features, one block of two layers."""
    network = _architectures().SwinIR.SwinIR
    sizes: dict[str, Any] = {"embed_dim": 8, "depths": [2], "num_heads": [2], "mlp_ratio": 2.0}
    kind = {"img_size": 16, "window_size": 8, "upsampler": "pixelshuffle", "resi_connection": "1conv"}
    return _weights(network(upscale=scale, img_range=1.0, **sizes, **kind), seed)


def scunet(*, seed: int = 3) -> dict[str, Tensor]:
    """SCUNet, 64 features (the least possible), one layer per level."""
    network = _architectures().SCUNet.SCUNet
    return _weights(network(config=[1] * 7, dim=64), seed)


def compact(*, seed: int = 4, scale: int = 2) -> dict[str, Tensor]:
    """SRVGGNetCompact, as in Real-ESRGAN's general models: 8 features, one convolution."""
    network = _architectures().Compact.Compact
    return _weights(network(num_feat=8, num_conv=1, upscale=scale), seed)


def save(
    folder: Path, name: str, weights: Mapping[str, Tensor], wrapped_in: str | None = "params_ema"
) -> Path:
    """Write a file ``folder/name`` as trainers do."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    torch.save({wrapped_in: dict(weights)} if wrapped_in else dict(weights), path)
    return path


def _architectures() -> Any:
    from importlib import import_module

    spandrel()
    for name in ("ESRGAN", "SwinIR", "SCUNet", "Compact"):
        import_module(f"spandrel.architectures.{name}")
    return import_module("spandrel.architectures")


def _weights(network: nn.Module, seed: int) -> dict[str, Tensor]:
    """The network's tensors, with its matrices drawn by seed, the same in every release of torch."""
    random = np.random.default_rng(seed)
    weights = network.state_dict()
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            drawn = random.normal(size=parameter.shape) / math.sqrt(parameter[0].numel())
            weights[name] = torch.from_numpy(drawn).float()
        elif name.endswith("bias"):
            weights[name] = torch.zeros_like(parameter)
    return weights
