"""What in-flight batching saves, and its overhead over the model.

    python -m bench.engine [--device cuda] [--size tiny|sd15|sdxl] [--images 200] [--slots 32]

Five tables: model calls for 2,000 mixed images; wall time for some of them, rendered; images of equal
parameters against diffusers' StableDiffusionImg2ImgPipeline at its best batch; prompts of different lengths;
CPU time of a step beside the model at 32 images. Weights are seeded, not trained: a network's speed does not
depend on what it knows.
"""

import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from bench.free_networks import free
from bench.networks import save
from bench.options import command, dtype_for, side_of
from bench.renders import alike, mixed, of_lengths
from img2img_worker.engine.engine import Engine, Render
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.condition import Condition
from img2img_worker.models.families.family import Family
from img2img_worker.sampling.plan import compile_plan
from img2img_worker.sampling.plan_key import PlanKey

BATCHES = (1, 2, 4, 8, 16, 32)

console = Console()


def static_batches(renders: Sequence[Render], slots: int, *, equal: bool) -> list[list[Render]]:
    """Batches of a static batcher: of images with equal parameters, or in the order of arrival."""
    groups: dict[object, list[Render]] = defaultdict(list)
    for render in renders:
        key = PlanKey.of(render.params)
        # strengths that start at the same step are the same to a sampler
        groups[replace(key, denoising_strength=key.steps_and_start[1]) if equal else None].append(render)
    return [
        group[start : start + slots] for group in groups.values() for start in range(0, len(group), slots)
    ]


def calls_table(family: Family, n: int, slots: int) -> None:
    renders = mixed(n, 64)
    lengths = {
        id(each): len(compile_plan(PlanKey.of(each.params), family.levels(each.latent_size)).sigmas)
        for each in renders
    }
    total = sum(lengths.values())
    bound = total / slots
    go = threading.Event()  # no step before all are submitted, so that all slots are full from the start
    with Engine(free(family, 8, 4 * slots, go), slots=slots, deterministic=False) as engine:
        futures = [engine.submit(each) for each in renders]
        go.set()
        wait(futures)
        counts = engine.counts

    def longest(*, equal: bool) -> int:
        batches = static_batches(renders, slots, equal=equal)
        return sum(max(lengths[id(each)] for each in batch) for batch in batches)

    table = Table(
        "how",
        "model calls",
        "of the lower bound",
        title=f"{n} mixed images, {slots} slots: {total} evaluations",
    )
    for how, calls in (
        ("one at a time", total),
        ("static batches of equal parameters", longest(equal=True)),
        ("static batches, padded to the longest", longest(equal=False)),
        ("in flight", counts.calls),
        ("lower bound: evaluations / slots", bound),
    ):
        table.add_row(how, f"{calls:.0f}", f"{calls / bound:.3f}")
    console.print(table)
    console.print(f"rows of no use in flight: {counts.padding / (counts.rows + counts.padding):.1%}\n")


def wall_table(family: Family, n: int, slots: int, side: int) -> None:
    renders = mixed(n, side)

    def batches(equal: bool) -> Callable[[Engine], None]:
        def run(engine: Engine) -> None:
            for batch in static_batches(renders, slots, equal=equal):
                wait([engine.submit(each) for each in batch])

        return run

    def at_once(engine: Engine) -> None:
        wait([engine.submit(each) for each in renders])

    table = Table("how", "wall s", "images/s", "model calls", title=f"{n} mixed images of {side}², rendered")
    for how, most, run in (
        ("one at a time", 1, at_once),
        ("static batches of equal parameters", slots, batches(True)),
        ("static batches in order, until the longest is done", slots, batches(False)),
        ("in flight", slots, at_once),
    ):
        with Engine(family, slots=most, deterministic=False) as engine:
            engine.submit(renders[0]).result()
            before = engine.counts.calls
            start = time.perf_counter()
            run(engine)
            seconds = time.perf_counter() - start
            table.add_row(how, f"{seconds:.1f}", f"{n / seconds:.2f}", str(engine.counts.calls - before))
    console.print(table)


def lengths_table(family: Family, n: int, slots: int, side: int, rounds: int) -> None:
    """Prompts of three lengths, with negative prompts of one length."""
    renders = of_lengths(n, side)
    ways = {"a call for each length": cast(Family, _ByLength(family)), "all lengths in one call": family}
    seconds: dict[str, list[float]] = {how: [] for how in ways}
    calls: dict[str, int] = {}
    for _ in range(rounds):  # in turns, and the best of each: other load on the machine affects both
        for how, each in ways.items():
            with Engine(each, slots=slots, deterministic=False) as engine:

                def run(engine: Engine = engine) -> None:
                    wait([engine.submit(one) for one in renders])

                seconds[how].append(_seconds(run))
                calls[how] = engine.counts.calls
    table = Table("how", "wall s", "model calls", title=f"{n} images of {side}², prompts of three lengths")
    for how in ways:
        table.add_row(how, f"{min(seconds[how]):.2f}", str(calls[how]))
    console.print(table)


class _ByLength:
    """A family whose rows share a call only if their prompts are equally long."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def __getattr__(self, name: str) -> Any:
        return getattr(self._family, name)

    def condition(self, *arguments: Any, **more: Any) -> Condition:
        condition = self._family.condition(*arguments, **more)
        return replace(condition, shares=(condition.shares, condition.length))


def pipeline_table(family: Family, folder: Path, side: int, rounds: int) -> None:
    """Euler, 20 steps: at strength 0.7 the engine makes 15 model calls, at 0.75 the pipeline does."""
    pipeline = _pipeline(folder, family)
    table = Table(
        "batch", "diffusers images/s", "in flight images/s", "ratio", title=f"equal parameters, {side}²"
    )
    best = [0.0, 0.0]
    for batch in BATCHES:
        renders = alike(batch, side, 20, 0.7)
        pictures = [Image.fromarray(render.pixels) for render in renders if render.pixels is not None]

        def theirs(pictures: list[Image.Image] = pictures) -> None:
            pipeline(
                prompt=["a photo of the cat"] * len(pictures),
                negative_prompt=["a dog"] * len(pictures),
                image=pictures,
                strength=0.75,
                num_inference_steps=20,
                guidance_scale=7.0,
                output_type="np",
            )

        with Engine(family, slots=batch, deterministic=False) as engine:

            def ours(renders: list[Render] = renders, engine: Engine = engine) -> None:
                wait([engine.submit(each) for each in renders])

            # in turns, and the best of each: other load on the machine affects both
            seconds = [[_seconds(theirs), _seconds(ours)] for _ in range(rounds + 1)][1:]
        rates = [batch / min(column) for column in zip(*seconds, strict=True)]
        best = [max(pair) for pair in zip(best, rates, strict=True)]
        table.add_row(str(batch), *(f"{rate:.2f}" for rate in rates), f"{rates[1] / rates[0]:.2f}")
    table.add_row("best", *(f"{rate:.2f}" for rate in best), f"{best[1] / best[0]:.2f}")
    console.print(table)


def step_table(family: Family, slots: int) -> None:
    table = Table("latent", "history", "CPU ms a step", title=f"a step beside the model, {slots} images")
    for size, steps in ((8, 20), (8, 50), (32, 20), (64, 20), (64, 50)):
        renders = alike(4 * slots, 8 * size, steps, 1.0)
        with Engine(free(family, size, 4 * slots), slots=slots, deterministic=False) as engine:
            for _ in range(2):  # once to warm up
                before = engine.counts.calls
                futures = [engine.submit(each) for each in renders]
                submitted = time.process_time()
                wait(futures)
                seconds, n = time.process_time() - submitted, engine.counts.calls - before
        table.add_row(f"{size}²", str(steps), f"{1000 * seconds / n:.2f}")
    console.print(table)


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _pipeline(folder: Path, family: Family) -> Any:
    kind = diffusers.AutoPipelineForImage2Image.from_pretrained(folder, dtype=family.dtype)
    kind.scheduler = diffusers.EulerDiscreteScheduler.from_config(kind.scheduler.config)
    kind.set_progress_bar_config(disable=True)
    return kind.to(family.device)


def main() -> None:
    parser = command(__doc__)
    parser.add_argument("--images", type=int, default=200, help="rendered for wall time")
    parser.add_argument("--counted", type=int, default=2000, help="counted in model calls")
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement against diffusers")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    side = side_of(arguments)
    with tempfile.TemporaryDirectory() as folder:
        dtype = dtype_for(arguments.device)
        checkpoint = save(arguments.size, Path(folder) / arguments.size, dtype, arguments.device)
        family = open_checkpoint(checkpoint, device=arguments.device, dtype=dtype, vae_dtype=dtype)
        calls_table(family, arguments.counted, arguments.slots)
        step_table(family, arguments.slots)
        pipeline_table(family, checkpoint, side, arguments.rounds)
        lengths_table(
            family, min(arguments.images, 2 * arguments.slots), arguments.slots, side, arguments.rounds
        )
        wall_table(family, arguments.images, arguments.slots, side)


if __name__ == "__main__":
    main()
