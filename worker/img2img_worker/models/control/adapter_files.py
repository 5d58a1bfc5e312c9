"""Files of T2I-Adapters, in the layouts that they are published in."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import T2IAdapter

from img2img_worker.models.checkpoints.infer_config import count
from img2img_worker.models.control.files import Weights, build_network, same_name


def adapter_builder(weights: Weights) -> Callable[..., Any] | None:
    """A function (path, weights, *, device, dtype) that builds the adapter; None: these are no adapter's."""
    if "conv_in.weight" in weights and "body.0.block1.weight" in weights:
        return partial(_adapter, name=_original_adapter_name)
    if "body.0.in_conv.weight" in weights and "body.0.out_conv.weight" in weights:
        return partial(_light_adapter, name=_original_light_name)
    if "adapter.body.0.out_conv.weight" in weights:
        return partial(_light_adapter, name=same_name)
    if "adapter.conv_in.weight" in weights and "adapter.body.0.resnets.0.block1.weight" in weights:
        return partial(_adapter, name=same_name)
    return None


def _adapter(
    path: Path,
    weights: Weights,
    *,
    name: Callable[[str, Weights], str],
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    n_in = weights["conv_in.weight" if "conv_in.weight" in weights else "adapter.conv_in.weight"].shape[1]
    is_xl = n_in in (256, 768)
    factor = 16 if is_xl else 8
    channels = _adapter_channels(weights)
    make = partial(
        T2IAdapter,
        in_channels=n_in // factor**2,
        channels=channels,
        num_res_blocks=2,
        downscale_factor=factor,
        adapter_type="full_adapter_xl" if is_xl else "full_adapter",
    )
    return build_network(path, weights, make, name, device=device, dtype=dtype)


def _light_adapter(
    path: Path,
    weights: Weights,
    *,
    name: Callable[[str, Weights], str],
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    prefix = "adapter." if "adapter.body.0.in_conv.weight" in weights else ""
    n = count(weights, f"{prefix}body.{{}}.") - 1  # the last level is as wide as the one before
    blocks = "resnets" if prefix else "body"
    make = partial(
        T2IAdapter,
        in_channels=weights[f"{prefix}body.0.in_conv.weight"].shape[1] // 8**2,
        channels=[weights[f"{prefix}body.{i}.out_conv.weight"].shape[0] for i in range(n)],
        num_res_blocks=count(weights, f"{prefix}body.0.{blocks}.{{}}."),
        downscale_factor=8,
        adapter_type="light_adapter",
    )
    return build_network(path, weights, make, name, device=device, dtype=dtype)


def _original_adapter_name(key: str, _known: Weights) -> str:
    name = key.removeprefix("adapter.")
    # the original has the two residual blocks of all levels in one list; a level's first has its `in_conv`
    name = re.sub(r"body\.(\d+)\.resnets\.(\d+)\.", lambda at: f"body.{2 * int(at[1]) + int(at[2])}.", name)
    return re.sub(r"body\.(\d+)\.in_conv\.", lambda at: f"body.{2 * int(at[1])}.in_conv.", name)


def _original_light_name(key: str, _known: Weights) -> str:
    return re.sub(r"body\.(\d+)\.resnets\.", r"body.\1.body.", key.removeprefix("adapter."))


def _adapter_channels(weights: Weights) -> list[int]:
    if "conv_in.weight" in weights:
        n = count(weights, "body.{}.") // 2
        return [weights[f"body.{2 * i}.block1.weight"].shape[0] for i in range(n)]
    n = count(weights, "adapter.body.{}.")
    return [weights[f"adapter.body.{i}.resnets.0.block1.weight"].shape[0] for i in range(n)]
