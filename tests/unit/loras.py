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
    """A layer's names, in its network and in each kind of file."""

    module: str
    kohya: str
    peft: str


#: layers of the UNet in `checkpoints.sd1`: linear ones, 1 × 1 and 3 × 3 convolutions, one with a stride
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
#: layers of any CLIP text model of three layers
TEXT = tuple(
    Target(
        module=name,
        kohya=f"lora_te_text_model_{name.replace('.', '_')}",
        peft=f"text_encoder.text_model.{name}",
    )
    for name in ("encoder.layers.0.self_attn.q_proj", "encoder.layers.2.mlp.fc1")
)


def factors(layer: nn.Linear | nn.Conv2d, seed: int, *, strength: float = 0.3) -> tuple[Tensor, Tensor]:
    """(up, down) in the shapes of trainers: matrices or, for a convolution, kernels."""
    generator = torch.Generator().manual_seed(seed)
    up = torch.randn(layer.weight.shape[0], RANK, generator=generator) * strength
    down = torch.randn(RANK, *layer.weight.shape[1:], generator=generator) * strength
    return (up, down) if down.ndim == 2 else (up[:, :, None, None], down)


def write_kohya(
    path: Path, network: nn.Module, targets: Sequence[Target], *, seed: int, alpha: float | None = None
) -> Path:
    """Write a file as kohya's trainer does; `network` has the shapes."""
    return _write(path, network, targets, seed, ("kohya", "lora_up.weight", "lora_down.weight"), alpha)


def write_peft(
    path: Path,
    network: nn.Module,
    targets: Sequence[Target],
    *,
    seed: int,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a file as diffusers writes PEFT's adapters, whose alpha is only in the metadata."""
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


def tensors(kind: str, shape: Sequence[int], *, seed: int, strength: float = 0.3) -> dict[str, Tensor]:
    """The tensors of that kind for a weight of that shape; sizes are multiples of 8, kernels square.

    Kinds: "lora", "lora cp", "loha", "loha tucker", "lokr", "lokr low", "lokr mixed", "lokr tucker", "glora",
    "ia3 out", "ia3 in", "oft", "coft", "oft diag", "boft", "full", "norm". Those of "cp" and "tucker" are for
    convolutions, "norm" is for vectors.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator) * strength

    out, inner, *kernel = (*shape, 1)[: max(2, len(shape))]
    columns = inner * int(torch.tensor(kernel).prod())
    ones = [1] * len(kernel)
    half = out // 2
    match kind:
        case "lora":
            return {
                "lora_up.weight": draw(out, RANK, *ones),
                "lora_down.weight": draw(RANK, inner, *kernel),
                "alpha": torch.tensor(2.0),
            }
        case "lora cp":
            return {
                "lora_up.weight": draw(out, RANK, 1, 1),
                "lora_down.weight": draw(RANK, inner, 1, 1),
                "lora_mid.weight": draw(RANK, RANK, *kernel),
                "alpha": torch.tensor(2.0),
            }
        case "loha":
            factors = {f"hada_w{i}_a": draw(out, RANK) for i in (1, 2)}
            return (
                factors | {f"hada_w{i}_b": draw(RANK, columns) for i in (1, 2)} | {"alpha": torch.tensor(2.0)}
            )
        case "loha tucker":
            cores = {f"hada_t{i}": draw(RANK, RANK, *kernel) for i in (1, 2)}
            factors = {f"hada_w{i}_a": draw(RANK, out) for i in (1, 2)}
            factors |= {f"hada_w{i}_b": draw(RANK, inner) for i in (1, 2)}
            return cores | factors | {"alpha": torch.tensor(2.0)}
        case "lokr":
            return {"lokr_w1": draw(2, 2), "lokr_w2": draw(half, inner // 2, *kernel)}
        case "lokr low":
            return {
                "lokr_w1_a": draw(2, 1),
                "lokr_w1_b": draw(1, 2),
                "lokr_w2_a": draw(half, RANK),
                "lokr_w2_b": draw(RANK, columns // 2),
                "alpha": torch.tensor(2.0),
            }
        case "lokr mixed":
            return {
                "lokr_w1_a": draw(2, RANK),
                "lokr_w1_b": draw(RANK, 2),
                "lokr_w2": draw(half, inner // 2, *kernel),
                "alpha": torch.tensor(2.0),
            }
        case "lokr tucker":
            return {
                "lokr_w1": draw(2, 2),
                "lokr_t2": draw(RANK, RANK, *kernel),
                "lokr_w2_a": draw(RANK, half),
                "lokr_w2_b": draw(RANK, inner // 2),
                "alpha": torch.tensor(2.0),
            }
        case "glora":
            return {
                "a1.weight": draw(RANK, inner, *ones),
                "a2.weight": draw(inner, RANK, *ones),
                "b1.weight": draw(RANK, inner, *kernel),
                "b2.weight": draw(out, RANK, *ones),
                "alpha": torch.tensor(2.0),
            }
        case "ia3 out":
            weight = draw(out) if not kernel else draw(1, out, *ones)
            return {"weight": weight, "on_input": torch.tensor(0)}
        case "ia3 in":
            weight = draw(inner) if not kernel else draw(1, inner, *ones)
            return {"weight": weight, "on_input": torch.tensor(1)}
        case "oft":
            return {"oft_blocks": draw(2, half, half), "rescale": 1 + draw(out, 1, *ones)}
        case "coft":
            return {"oft_blocks": draw(2, half, half), "alpha": torch.tensor(1e-3)}
        case "oft diag":
            return {"oft_diag": torch.linalg.qr(draw(2, half, half))[0].contiguous()}
        case "boft":
            return {"oft_blocks": draw(2, out // 4, 4, 4)}
        case "full":
            return {"diff": draw(*shape), "diff_b": draw(out)}
        case "norm":
            return {"w_norm": draw(out), "b_norm": draw(out)}
    raise KeyError(kind)


def write_kinds(path: Path, network: nn.Module, kinds: Mapping[str, str], *, seed: int) -> Path:
    """Write a file of several kinds: `kinds` by module; `network` has the shapes."""
    written = {
        f"lora_unet_{module.replace('.', '_')}.{part}": tensor
        for number, (module, kind) in enumerate(kinds.items())
        for part, tensor in tensors(kind, _weight(network, module).shape, seed=seed + number).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(written, path)
    return path


def _weight(network: nn.Module, module: str) -> Tensor:
    layer: Any = network.get_submodule(module)
    weight: Tensor = layer.weight
    return weight
