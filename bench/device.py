"""How well the engine uses its device, by the number of slots; and what compiling the network saves.

    python -m bench.device [--device cuda] [--size tiny|sd15|sdxl] [--slots 1,2,4,...,64] [--compile]

For each number of slots: images a second, the share of the time in which the device ran the model, and the
floating-point operations of its useful rows as a share of what large matrix products reach there. With
--compile: a model call's time for each row count, as it is and compiled.
"""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.networks import save
from bench.options import command, dtype_for, side_of
from bench.renders import alike
from img2img_shared.params import Params
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.warm import warm_up
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.condition import Conditions
from img2img_worker.models.families.family import Family
from tests.checkpoints import embedded

STEPS, STRENGTH = 20, 0.7

console = Console()


class _Clock:
    """Measures times on the device's own clock, if it has one, without waiting for the device."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._spans: list[tuple[Any, Any]] = []

    def time(self, work: Callable[[], Tensor]) -> Tensor:
        start = self._now()
        answer = work()
        self._spans.append((start, self._now()))
        return answer

    def seconds(self) -> float:
        """All spans so far, which are then forgotten."""
        if self._cuda:
            torch.cuda.synchronize()
        spans, self._spans = self._spans, []
        return float(sum(a.elapsed_time(b) / 1000 if self._cuda else b - a for a, b in spans))

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's own
        event.record()
        return event


class _Timed:
    """A family whose model calls are timed."""

    def __init__(self, family: Family, clock: _Clock) -> None:
        self._family, self._clock = family, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._family, name)

    def predict(self, x: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        return self._clock.time(lambda: self._family.predict(x, t, conditions))


def peak(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Operations per second in a product of two matrices of side × side, the best of ten."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    clock, best = _Clock(device), float("inf")
    for _ in range(10):
        clock.time(lambda: a @ b)
        best = min(best, clock.seconds())
    return 2 * side**3 / best


@torch.inference_mode()
def row_operations(family: Family, side: int) -> float:
    """Floating-point operations of one row of a model call."""
    with FlopCounterMode(display=False) as counter:
        family.predict(*_call(family, side, 1))
    return float(counter.get_total_flops())


def slots_table(family: Family, side: int, counts: list[int], most: float) -> None:
    clock = _Clock(family.device)
    timed = cast(Family, _Timed(family, clock))
    operations = row_operations(family, side)
    table = Table(
        "slots", "images/s", "device runs the model", "TFLOP/s", "of the peak",
        title=f"{side}², {STEPS} steps at {STRENGTH}; matrix products reach {most / 1e12:.3g} TFLOP/s",
    )  # fmt: skip
    for slots in counts:
        with Engine(timed, slots=slots, deterministic=False) as engine:
            wait([engine.submit(each) for each in alike(slots, side, STEPS, STRENGTH)])
            clock.seconds()
            rows, start = engine.counts.rows, time.perf_counter()
            wait([engine.submit(each) for each in alike(2 * slots, side, STEPS, STRENGTH)])
            seconds = time.perf_counter() - start
            done = operations * (engine.counts.rows - rows)
        table.add_row(
            str(slots),
            f"{2 * slots / seconds:.2f}",
            f"{clock.seconds() / seconds:.0%}",
            f"{done / seconds / 1e12:.3g}",
            f"{done / seconds / most:.0%}",
        )
    console.print(table)


@torch.inference_mode()
def compile_table(family: Family, compiled: Family, side: int, counts: list[int]) -> None:
    warm_up(compiled, counts, [(side, side)])
    table = Table("rows", "ms as it is", "ms compiled", "ratio", title=f"a model call, {side}²")
    for rows in counts:
        best = [float("inf")] * 2
        for _ in range(5):  # in turns: other load affects both
            for which, each in enumerate((family, compiled)):
                call, clock = _call(each, side, rows), _Clock(each.device)
                clock.time(partial(each.predict, *call))
                best[which] = min(best[which], clock.seconds())
        eager, fast = (1000 * seconds for seconds in best)
        table.add_row(str(rows), f"{eager:.2f}", f"{fast:.2f}", f"{eager / fast:.2f}")
    console.print(table)


def _call(family: Family, side: int, rows: int) -> tuple[Tensor, Tensor, Conditions]:
    cells = side // family.vae_factor
    row = family.condition(embedded(family, ""), Params(width=side, height=side))
    x = torch.zeros(rows, family.latent_channels, cells, cells, device=family.device)
    return x, torch.full((rows,), 500.5, device=family.device), Conditions.stack([row] * rows)


def main() -> None:
    parser = command(__doc__)
    parser.add_argument("--slots", default="1,2,4,8,16,32,64")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too; takes minutes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.compiler.set_stance("eager_on_recompile")
    counts = [int(each) for each in arguments.slots.split(",")]
    side = side_of(arguments)
    with tempfile.TemporaryDirectory() as folder:
        dtype = dtype_for(arguments.device)
        path = save(arguments.size, Path(folder) / arguments.size, dtype, arguments.device)
        family = open_checkpoint(path, device=arguments.device, dtype=dtype, vae_dtype=dtype)
        most = peak(family.device, dtype, 1024 if arguments.device == "cpu" else 8192)
        slots_table(family, side, counts, most)
        if arguments.compile:
            compiled = open_checkpoint(path, device=arguments.device, dtype=dtype, compiler="inductor")
            compile_table(family, compiled, side, counts)


if __name__ == "__main__":
    main()
