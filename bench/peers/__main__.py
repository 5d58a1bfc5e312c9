"""Compares this farm with other programs, on the same checkpoint and requests.

    python -m bench.peers --checkpoint sd15.safetensors [--a1111 FOLDER]
        [--comfyui FOLDER --comfyui-python PATH]

In turns, each round as many pictures as `--images`, all asked for at once: first cold (from the start of the
program to its first pictures, the checkpoint read), then warm. CPU seconds are those of all of a program's
processes; ratios are of what this farm takes in the same round: above 1, the farm is ahead. diffusers and
ComfyUI run at the batch that is best for each; on a GPU there is a compiled diffusers, too, which takes a
minute for each of the two largest batches. ComfyUI and A1111 are left out where no folder is given. All make
as many model calls as A1111 does.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.networks import SIZES, save
from bench.peers import a1111, comfyui, farm, pipeline
from bench.peers.peer import Cost, Peer, Wish, best_batch, cpu_of, measured, wishes
from tests.original import write_original

FARM = "this farm"

console = Console()

#: enters a peer that is ready to render
Started = Callable[[], AbstractContextManager[Peer]]


def peers(
    arguments: argparse.Namespace, checkpoint: Path, configuration: Path, folder: Path
) -> dict[str, Started]:
    """The peers that are installed, the farm first."""
    n, device = arguments.images, arguments.device
    batches = [each for each in map(int, arguments.batches.split(",")) if each <= n]
    diffusers = partial(pipeline.started, checkpoint, configuration, folder, device)
    found: dict[str, Started] = {
        FARM: partial(farm.started, checkpoint, folder, n, device, shares=arguments.share),
        "diffusers": partial(diffusers, batches, "eager"),
    }
    if device != "cpu":
        found["diffusers compiled"] = partial(diffusers, batches[-2:], "compiled")
    if arguments.comfyui:
        found["ComfyUI"] = partial(
            comfyui.started, checkpoint, folder, arguments.comfyui, arguments.comfyui_python, device, batches
        )
    if arguments.a1111:
        found["A1111"] = partial(a1111.started, checkpoint, folder, arguments.a1111, device)
    return {name: start for name, start in found.items() if name not in arguments.without}


def run(
    found: dict[str, Started], n: int, side: int, rounds: int, device: str, **schedule: Any
) -> tuple[dict[str, list[Cost]], dict[str, int]]:
    """The cost of each round for each peer, that of the first from the peer's start; and batch sizes, if any.

    Another's program that fails before the first round is left out.
    """
    costs: dict[str, list[Cost]] = {}
    batches: dict[str, int] = {}
    with ExitStack() as stack:
        running: dict[str, Peer] = {}
        for name, start in found.items():
            try:
                with ExitStack() as started:
                    cpu, wall = time.process_time(), time.perf_counter()
                    peer = started.enter_context(start())
                    peer.render(wishes(n, side, 1000, **schedule))
                    cpu = time.process_time() - cpu + cpu_of(peer)
                    costs[name] = [Cost(cpu=cpu, wall=time.perf_counter() - wall)]
                    if isinstance(peer, pipeline.PipelinePeer | comfyui.ComfyPeer):
                        peer.batch = batches[name] = best_batch(peer, side, device, **schedule)
                    stack.enter_context(started.pop_all())
            except Exception as error:
                if name == FARM:
                    raise
                console.print(f"{name} is left out: {error!r}")
                costs.pop(name, None)
            else:
                running[name] = peer
                console.print(f"{name} runs: {costs[name][0]}, {batches.get(name)}")
        for number in range(rounds):
            for name, peer in running.items():
                costs[name].append(measured(peer, wishes(n, side, 2000 + n * number, **schedule)))
                console.print(f"{name}: {costs[name][-1]}")
    return costs, batches


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> str:
    """The median ratio of a peer's time to ours, round by round, and its spread."""
    found = [their / our for their, our in zip(theirs, ours, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def show(costs: dict[str, list[Cost]], batches: dict[str, int], title: str) -> None:
    table = Table("", "cold CPU s", "wall s", "warm CPU s", "/ farm's", "wall s", "/ farm's")
    table.title = title
    ours = costs[FARM][1:]
    for name, (cold, *warm) in costs.items():
        cpu, wall = [each.cpu for each in warm], [each.wall for each in warm]
        table.add_row(
            f"{name}, batch of {batches[name]}" if name in batches else name,
            f"{cold.cpu:.1f}",
            f"{cold.wall:.1f}",
            f"{statistics.median(cpu):.2f}",
            ratios(cpu, [each.cpu for each in ours]),
            f"{statistics.median(wall):.2f}",
            ratios(wall, [each.wall for each in ours]),
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, help="of that size; default: a seeded one")
    parser.add_argument(
        "--size", choices=SIZES, default="narrow", help="the smallest that all can load; not ComfyUI: tiny"
    )
    parser.add_argument("--side", type=int, help="pixels; default: 64, 512 or 1024 by size")
    parser.add_argument("--steps", type=int, default=Wish.steps)
    parser.add_argument("--strength", type=float, default=Wish.strength)
    parser.add_argument("--batches", default="1,2,4,8,16", help="tried with those who render in batches")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", action="store_true", help="the farm's images share calls on a CPU, too")
    parser.add_argument(
        "--without", action="append", default=[], help="a name in the table's first column, to be left out"
    )
    parser.add_argument("--comfyui", type=Path, help="its folder")
    parser.add_argument("--comfyui-python", type=Path, default=Path("python3"), help="with what it needs")
    parser.add_argument("--a1111", type=Path, help="its folder")
    arguments = parser.parse_args()
    side = arguments.side or SIZES[arguments.size]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        dtype = torch.float32 if arguments.device == "cpu" else torch.float16
        parts = save(arguments.size, folder / "parts", dtype, arguments.device)
        checkpoint = arguments.checkpoint or write_original(parts, folder / f"{arguments.size}.safetensors")
        found = peers(arguments, checkpoint.resolve(), parts, folder)
        schedule = {"steps": arguments.steps, "strength": arguments.strength}
        costs, batches = run(found, arguments.images, side, arguments.rounds, arguments.device, **schedule)
        title = f"{arguments.images} pictures of {side}², {arguments.steps} steps at {arguments.strength}"
        show(costs, batches, title)


if __name__ == "__main__":
    main()
