"""What in-flight batching saves, computed from plans only, and what plans cost: `python -m bench.sampling`.

Model calls for mixed images (strength 0.2 to 1, three step counts, four samplers) at a number of slots, four
ways; the lower bound is all evaluations over the slots. Then, for each sampler, the time to compile a plan,
and to gather a batch's coefficients from 32 plans for one call.
"""

import argparse
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from math import ceil
from time import perf_counter

import numpy as np

from img2img_shared.samplers import SAMPLERS
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.plan import Plan, compile_plan
from img2img_worker.sampling.plan_key import PlanKey

MIX = ("Euler", "Euler a", "DPM++ 2M", "DPM++ SDE")
STEPS = (20, 30, 50)


def stable_diffusion_levels() -> NoiseLevels:
    """The noise levels of Stable Diffusion 1.x."""
    return NoiseLevels.from_alphas_cumprod(np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2))


def mixed(images: int, seed: int) -> list[PlanKey]:
    """Random parameters; strengths are multiples of 0.01, the step of A1111's slider."""
    dice = random.Random(seed)
    return [
        PlanKey(
            sampler_name=dice.choice(MIX),
            scheduler="Automatic",
            steps=dice.choice(STEPS),
            denoising_strength=dice.randint(20, 100) / 100,
        )
        for _ in range(images)
    ]


def equal_batches(keys: Sequence[PlanKey], calls: Callable[[PlanKey], int], slots: int) -> int:
    """Calls if only images with the same parameters share a batch."""
    return sum(ceil(n / slots) * calls(key) for key, n in Counter(keys).items())


def padded_batches(keys: Sequence[PlanKey], calls: Callable[[PlanKey], int], slots: int) -> int:
    """Calls if a batch takes images as they come, and lasts as long as its longest."""
    return sum(max(map(calls, keys[i : i + slots])) for i in range(0, len(keys), slots))


def in_flight(keys: Sequence[PlanKey], calls: Callable[[PlanKey], int], slots: int) -> int:
    """Calls if every slot takes the next image as soon as its own is done."""
    waiting = deque(map(calls, keys))
    left: list[int] = []
    total = 0
    while waiting or left:
        while waiting and len(left) < slots:
            left.append(waiting.popleft())
        total += 1
        left = [n - 1 for n in left if n > 1]
    return total


def timed(work: Callable[[], object], repeats: int) -> float:
    """Milliseconds of the fastest of `repeats` runs."""
    times = []
    for _ in range(repeats):
        begun = perf_counter()
        work()
        times.append(perf_counter() - begun)
    return 1000 * min(times)


def print_calls(images: int, slots: int, seed: int) -> None:
    levels = stable_diffusion_levels()
    keys = mixed(images, seed)
    counts = {key: len(compile_plan(key, levels).sigmas) for key in set(keys)}
    evaluations = sum(counts[key] for key in keys)
    bound = ceil(evaluations / slots)
    flying = in_flight(keys, counts.__getitem__, slots)
    print(f"{images:,} images, {evaluations:,} evaluations, {slots} slots, {len(counts):,} parameter sets")
    print(f"{'':<34}{'calls':>10}{'of bound':>10}{'of in flight':>14}")
    for name, calls in [
        ("one at a time", evaluations),
        ("static batches of equal parameters", equal_batches(keys, counts.__getitem__, slots)),
        ("static batches, padded", padded_batches(keys, counts.__getitem__, slots)),
        ("in flight", flying),
        ("lower bound", bound),
    ]:
        print(f"{name:<34}{calls:>10,}{calls / bound:>10.2f}{calls / flying:>14.2f}")


def print_costs(repeats: int) -> None:
    levels = stable_diffusion_levels()
    print(f"\n{'30 steps, strength 0.75':<24}{'calls':>6}{'noises':>8}{'compile ms':>12}{'32 rows ms':>12}")
    for sampler in (name for name, has in SAMPLERS.items() if not has.adaptive):
        key = PlanKey(sampler_name=sampler, scheduler="Automatic", steps=30, denoising_strength=0.75)
        plan = compile_plan(key, levels)
        calls = [i % len(plan.sigmas) for i in range(32)]

        def compiled(key: PlanKey = key) -> object:
            return compile_plan.__wrapped__(key, levels)

        def gathered(plan: Plan = plan, calls: list[int] = calls) -> object:
            return np.stack([plan.inputs[i] for i in calls], dtype=np.float32, casting="same_kind")

        compile_ms, row_ms = timed(compiled, repeats), timed(gathered, repeats)
        print(f"{sampler:<24}{len(plan.sigmas):>6}{plan.n_noises:>8}{compile_ms:>12.2f}{row_ms:>12.4f}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=2000)
    arguments.add_argument("--slots", type=int, default=32)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--repeats", type=int, default=5)
    chosen = arguments.parse_args()
    print_calls(chosen.images, chosen.slots, chosen.seed)
    print_costs(chosen.repeats)


if __name__ == "__main__":
    main()
