"""The cost of images with LoRAs of their own.

    python -m bench.loras [--device cuda] [--size tiny|sd15|sdxl] [--side 64] [--images 4] [--rounds 3]

Images of one LoRA against as many of a LoRA each, in turns: seconds of the CPU and of the clock (on a GPU it
is these that are compared), and model calls. LoRAs are of rank 16, for all matrices of attention (128 of
SD 1.5).
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from bench.networks import save
from bench.options import command, dtype_for, side_of
from bench.renders import alike
from img2img_worker.engine.engine import Engine, Render
from img2img_worker.models.adapters.lora_keys import denoiser_layers
from img2img_worker.models.checkpoints.loading import open_checkpoint

RANK = 16
_ATTENTION = ("to_q", "to_k", "to_v", "to_out_0")

console = Console()


class Cost(NamedTuple):
    """The cost of one run."""

    cpu: float
    wall: float
    calls: int


def write_loras(folder: Path, unet: Any, n: int) -> None:
    """Write seeded LoRAs called 0, 1, ..."""
    layers = {
        name: layer.weight for name, layer in denoiser_layers(unet).items() if name.endswith(_ATTENTION)
    }
    for number in range(n):
        generator = torch.Generator().manual_seed(number)
        tensors = {}
        for name, weight in layers.items():
            tensors[f"{name}.lora_down.weight"] = torch.randn(RANK, weight.shape[1], generator=generator)
            tensors[f"{name}.lora_up.weight"] = torch.randn(weight.shape[0], RANK, generator=generator) / 1e3
        save_file({name: tensor.half() for name, tensor in tensors.items()}, folder / f"{number}.safetensors")


def run(engine: Engine, renders: Sequence[Render]) -> Cost:
    calls, cpu, wall = engine.counts.calls, time.process_time(), time.perf_counter()
    wait([engine.submit(each) for each in renders])
    return Cost(time.process_time() - cpu, time.perf_counter() - wall, engine.counts.calls - calls)


def table(family: Any, plain: Sequence[Render], rounds: int, *, deterministic: bool) -> None:
    n = len(plain)
    ways = {
        "none": plain,
        "the same LoRA": [replace(each, prompt="a cat <lora:0:1>") for each in plain],
        "a LoRA each": [
            replace(each, prompt=f"a cat <lora:{number}:1>") for number, each in enumerate(plain)
        ],
    }
    costs: dict[str, list[Cost]] = {how: [] for how in ways}
    with Engine(family, slots=n, deterministic=deterministic) as engine:
        for _ in range(rounds + 1):  # in turns, and the first to warm up
            for how, renders in ways.items():
                costs[how].append(run(engine, renders))
    mode = "deterministic" if deterministic else "sharing calls"
    shown = Table("LoRAs", "CPU s", "wall s", "of the same LoRA", "model calls", title=f"{n} images, {mode}")
    for how, found in costs.items():
        pairs = zip(found[1:], costs["the same LoRA"][1:], strict=True)
        ratios = [
            each.cpu / same.cpu if family.device.type == "cpu" else each.wall / same.wall
            for each, same in pairs
        ]
        shown.add_row(
            how,
            f"{statistics.median(each.cpu for each in found[1:]):.2f}",
            f"{statistics.median(each.wall for each in found[1:]):.2f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            str(found[-1].calls),
        )
    console.print(shown)


def main() -> None:
    parser = command(__doc__)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--checkpoint", type=Path, help="a folder of such a size; default: a seeded one")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        dtype = dtype_for(arguments.device)
        checkpoint = arguments.checkpoint or save(
            arguments.size, folder / arguments.size, dtype, arguments.device
        )
        family: Any = open_checkpoint(
            checkpoint,
            device=arguments.device,
            dtype=dtype,
            vae_dtype=dtype,
            lora_folder=folder / "Lora",
        )
        (folder / "Lora").mkdir()
        write_loras(folder / "Lora", family.unet, arguments.images)
        side = side_of(arguments)
        for deterministic in (False, True):
            renders = alike(arguments.images, side, arguments.steps, 1.0)
            table(family, renders, arguments.rounds, deterministic=deterministic)


if __name__ == "__main__":
    main()
