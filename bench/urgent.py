"""How long an urgent picture takes on a full worker, compared with an idle one.

    python -m bench.urgent [--size tiny|sd15|sdxl] [--side 256] [--steps 20] [--pictures 10] [--slots 4]

Each round: the job that fills the worker is paused, and when nothing of it is left in hand, one picture is
asked for; it goes on, and when all of the worker's threads have one of its images, the same picture is asked
for with a higher priority. Wall time, from asking to having it.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.networks import SIZES, save
from bench.peers.farm import FarmPeer, started
from bench.peers.peer import wishes
from img2img_worker.farm.celery_worker import n_threads

#: images of the job that fills the worker
MANY = 100_000


def until(is_so: Callable[[], object]) -> None:
    while not is_so():
        time.sleep(0.02)


def rounds(peer: FarmPeer, side: int, steps: int, n: int, full: int) -> list[tuple[float, float]]:
    """(seconds on the idle worker, seconds on the full one) of each urgent picture."""
    farm = peer.farm
    shape: dict[str, Any] = {
        "model": peer.model,
        "width": side,
        "height": side,
        "steps": steps,
        "denoising_strength": 1.0,
    }
    pixels = wishes(1, side, 1)[0].png

    def seconds(seed: int, **more: Any) -> float:
        start = time.perf_counter()
        for result in farm.results(farm.submit([pixels], seed=seed, **shape, **more)):
            result.read()
        return time.perf_counter() - start

    filling = farm.submit([pixels], images_per_input=MANY, **shape)
    found = []
    for number in range(n + 1):
        farm.pause(filling)
        until(lambda: farm.status(filling).running == 0)
        idle = seconds(number)
        farm.resume(filling)
        until(lambda: farm.status(filling).running >= full)
        found.append((idle, seconds(number, priority=10)))
    farm.cancel(filling)
    return found[1:]  # the first one is for warming up


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, round(share * (len(values) - 1)))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pictures", type=int, default=10)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--share", action="store_true", help="images share calls on a CPU, too")
    arguments = parser.parse_args()
    slots = arguments.slots
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        dtype = torch.float32 if arguments.device == "cpu" else torch.float16
        checkpoint = save(arguments.size, folder / "model", dtype, arguments.device)
        with started(checkpoint, folder, slots, arguments.device, shares=arguments.share) as peer:
            found = rounds(peer, arguments.side, arguments.steps, arguments.pictures, n_threads(slots))
    idle, busy = zip(*found, strict=True)
    table = Table("", "median", "95%", title=f"{len(found)} urgent pictures, {slots} slots, seconds")
    table.add_row("idle", f"{statistics.median(idle):.2f}", f"{percentile(idle, 0.95):.2f}")
    table.add_row("full", f"{statistics.median(busy):.2f}", f"{percentile(busy, 0.95):.2f}")
    ratios = [full / alone for alone, full in found]
    table.add_row("ratio", f"{statistics.median(ratios):.2f}", f"{percentile(ratios, 0.95):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
