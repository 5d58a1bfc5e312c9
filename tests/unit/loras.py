"""LoRA files with seeded factors, and the same sums added to a checkpoint's weights by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

RANK = 3


@dataclass(frozen=True, kw_only=True)
class Target:
    """One layer, as its network and as each kind of file names it."""

    module: str
    kohya: str
    peft: str


#: of the UNet in `checkpoints.sd1`: linear ones, convolutions of 1 and of 3 pixels, and one that strides
UNET = tuple(
    Target(module=name, kohya=f"lora_unet_{name.replace('.', '_')}", peft=f"unet.{name}")
    for name in (
        "down_blocks.0.attentions.0.proj_in",
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
        "down_blocks.0.downsamplers.0.conv",
        "mid_block.resnets.0.conv1",
        "up_blocks.1.attentions.1.transformer_blocks.0.attn1.to_out.0",
        "up_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj",
    )
)
#: of any CLIP text model of three layers
TEXT = tuple(
    Target(
        module=name,
        kohya=f"lora_te_text_model_{name.replace('.', '_')}",
        peft=f"text_encoder.text_model.{name}",
    )
    for name in ("encoder.layers.0.self_attn.q_proj", "encoder.layers.2.mlp.fc1")
)


def factors(layer: nn.Linear | nn.Conv2d, seed: int, *, strength: float = 0.3) -> tuple[Tensor, Tensor]:
    """(up, down) as trainers shape them: matrices, or for a convolution kernels."""
    generator = torch.Generator().manual_seed(seed)
    up = torch.randn(layer.weight.shape[0], RANK, generator=generator) * strength
    down = torch.randn(RANK, *layer.weight.shape[1:], generator=generator) * strength
    return (up, down) if down.ndim == 2 else (up[:, :, None, None], down)


def write_kohya(
    path: Path, network: nn.Module, targets: Sequence[Target], *, seed: int, alpha: float | None = None
) -> Path:
    """As kohya's trainer writes it; `network` tells the shapes."""
    return _write(path, network, targets, seed, ("kohya", "lora_up.weight", "lora_down.weight"), alpha)


def write_peft(
    path: Path,
    network: nn.Module,
    targets: Sequence[Target],
    *,
    seed: int,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """As diffusers writes PEFT's adapters, which have no alpha but in the file's metadata."""
    return _write(path, network, targets, seed, ("peft", "lora_B.weight", "lora_A.weight"), None, metadata)


def merge(network: nn.Module, targets: Sequence[Target], *, seed: int, scale: float) -> None:
    """Adds ``scale · up · down`` to the layers' weights: the definition, term by term."""
    for number, target in enumerate(targets):
        layer: Any = network.get_submodule(target.module)
        up, down = factors(layer, seed + number)
        total = torch.zeros_like(layer.weight)
        for rank in range(RANK):
            total += up[:, rank].reshape(-1, *[1] * (down.ndim - 1)) * down[rank]
        layer.weight.data = layer.weight.data + scale * total


def _write(
    path: Path,
    network: nn.Module,
    targets: Sequence[Target],
    seed: int,
    names: tuple[str, str, str],
    alpha: float | None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    layout, up_name, down_name = names
    tensors: dict[str, Tensor] = {}
    for number, target in enumerate(targets):
        layer: Any = network.get_submodule(target.module)
        name = getattr(target, layout)
        tensors[f"{name}.{up_name}"], tensors[f"{name}.{down_name}"] = factors(layer, seed + number)
        if alpha is not None:
            tensors[f"{name}.alpha"] = torch.tensor(alpha)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata=dict(metadata or {}))
    return path
