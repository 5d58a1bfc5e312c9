"""What it costs that images have little in common: mixed work against uniform work.

    python -m bench.mixed [--device cuda] [--size tiny|sd15|sdxl] [--slots 16] [--images 96] [--rounds 1]

Images that differ in one respect (schedule, size, LoRA, prompt length, ControlNet), then in all at once. Each
kind among them is rendered by itself first. The ratio is of what the mixed images would take at those rates
to what they do take: 1 where mixing costs nothing. Measured is while all slots are taken; on a CPU, its time.
On a GPU there is a round before the first, in which kernels and graphs are made.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from bench.control import control
from bench.loras import write_loras
from bench.networks import save, save_control_net
from bench.options import command, dtype_for, side_of
from bench.renders import alike
from img2img_worker.engine.engine import Engine, Render
from img2img_worker.models.checkpoints.loading import open_checkpoint

NETWORK = "canny"
LORAS = 4

console = Console()


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Images of one cost; what is not said is as with SD 1.5's usual request."""

    sampler: str = "Euler"
    steps: int = 20
    strength: float = 0.5
    #: width and height, as multiples of the model's side
    shape: tuple[float, float] = (1, 1)
    lora: int | None = None
    #: pieces of 75 tokens that the prompt has
    pieces: int = 1
    is_controlled: bool = False

    def alone(self) -> "Kind":
        """What it is compared to: where all have a LoRA, they have the same one."""
        return self if self.lora is None else replace(self, lora=0)

    def render(self, number: int, side: int) -> Render:
        width, height = (8 * round(side * share / 8) for share in self.shape)
        (plain,) = alike(1, side, self.steps, self.strength)
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        lora = "" if self.lora is None else f" <lora:{self.lora}:1>"
        return replace(
            plain,
            params=plain.params.model_copy(
                update={"width": width, "height": height, "sampler_name": self.sampler}
            ),
            prompt=" BREAK ".join(["a photo of the cat"] * self.pieces) + lora,
            seed=number,
            pixels=pixels,
            latent_size=(height // 8, width // 8),
            controls=(control(NETWORK, number, (height, width)),) if self.is_controlled else (),
        )


SCHEDULES = (
    Kind(),
    Kind(sampler="Euler a", steps=30, strength=0.3),
    Kind(sampler="DPM++ 2M", strength=0.75),
    Kind(sampler="DDIM", steps=50, strength=0.2),
)
SHAPES = ((1, 1), (1.5, 1), (1, 1.5), (1.25, 1.25))

#: what images differ in -> the kinds that are mixed, as many of each
MIXES: dict[str, Sequence[Kind]] = {
    "strengths, steps and samplers": SCHEDULES,
    "sizes": [Kind(shape=shape) for shape in SHAPES],
    "LoRAs (none, or one of four)": [Kind(), *(Kind(lora=number) for number in range(LORAS))],
    "prompts of one to three pieces": [Kind(pieces=pieces) for pieces in (1, 2, 3)],
    "ControlNet on every second": [Kind(), Kind(is_controlled=True)],
    "all at once": [
        replace(kind, shape=shape, lora=number, pieces=1 + number % 3, is_controlled=bool(number % 2))
        for number, (kind, shape) in enumerate(zip(SCHEDULES, SHAPES, strict=True))
    ],
}


def in_full_slots(
    engine: Engine, renders: Sequence[Render], now: Callable[[], float]
) -> tuple[list[int], float]:
    """Which of them ended while all slots were taken, and in how many seconds: between the first
    `engine.slots` that ended and the last."""
    ended: SimpleQueue[tuple[float, int]] = SimpleQueue()

    def stamp(number: int, _: object) -> None:
        ended.put((now(), number))

    futures = [engine.submit(each) for each in renders]
    for number, future in enumerate(futures):
        future.add_done_callback(partial(stamp, number))
    stamps = sorted(ended.get() for _ in renders)
    for future in futures:
        future.result()
    first, last = engine.slots - 1, len(renders) - engine.slots - 1
    return [number for _, number in stamps[first + 1 : last + 1]], stamps[last][0] - stamps[first][0]


class Measuring:
    """Rates of one round, those of uniform work measured once."""

    def __init__(self, engine: Engine, side: int, n: int, now: Callable[[], float]) -> None:
        self._engine, self._side, self._n, self._now = engine, side, n, now
        self._seconds: dict[Kind, float] = {}

    def uniform(self, kind: Kind) -> float:
        """Seconds an image."""
        if kind not in self._seconds:
            renders = [kind.render(number, self._side) for number in range(self._n)]
            ended, seconds = in_full_slots(self._engine, renders, self._now)
            self._seconds[kind] = seconds / len(ended)
        return self._seconds[kind]

    def mixed(self, kinds: Sequence[Kind]) -> tuple[float, float]:
        """(images a second, as a share of what the uniform rates amount to)."""
        alone = {kind: self.uniform(kind.alone()) for kind in kinds}
        order = [kinds[number % len(kinds)] for number in range(self._n)]
        random.Random(1).shuffle(order)
        renders = [kind.render(number, self._side) for number, kind in enumerate(order)]
        ended, seconds = in_full_slots(self._engine, renders, self._now)
        return len(ended) / seconds, sum(alone[order[number]] for number in ended) / seconds


def main() -> None:
    parser = command(__doc__)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--images", type=int, default=96, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.images < 3 * arguments.slots:
        parser.error("--images: at least three times --slots, so that all are taken for a while")
    torch.set_num_threads(arguments.threads)
    device, side, dtype = arguments.device, side_of(arguments), dtype_for(arguments.device)
    now = time.process_time if device == "cpu" else time.perf_counter
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in MIXES}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        checkpoint = save(arguments.size, folder / arguments.size, dtype, device)
        save_control_net(checkpoint, folder / f"{NETWORK}.safetensors", dtype)
        (folder / "Lora").mkdir()
        family: Any = open_checkpoint(
            checkpoint,
            device=device,
            dtype=dtype,
            vae_dtype=dtype,
            lora_folder=folder / "Lora",
            control_folders=(folder,),
        )
        write_loras(folder / "Lora", family.unet, LORAS)
        with Engine(family, slots=arguments.slots, deterministic=False) as engine:
            warm = device == "cpu"
            for _ in range(arguments.rounds + (not warm)):
                measuring = Measuring(engine, side, arguments.images, now)
                for name, kinds in MIXES.items():
                    rate, share = measuring.mixed(kinds)
                    if warm:
                        found[name].append((rate, share))
                        console.print(f"{name}: {rate:.2f} images/s, {share:.2f} of uniform")
                warm = True
    table = Table("mixed in", "images/s", "of uniform", title=f"{side}², {arguments.slots} slots")
    for name, each in found.items():
        rates, shares = zip(*each, strict=True)
        spread = f" ({min(shares):.2f} to {max(shares):.2f})" if len(shares) > 1 else ""
        table.add_row(name, f"{statistics.median(rates):.2f}", f"{statistics.median(shares):.2f}{spread}")
    console.print(table)


if __name__ == "__main__":
    main()
