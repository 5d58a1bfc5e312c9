"""Simulates how long images wait, and how much workers load, by the policy that places models on workers.

    python -m bench.placement [--workers 1000] [--models 20] [--minutes 60] [--load 0.8]

Fake workers on a clock of their own ask the farm's own policy (`img2img_shared.placement`) as real ones do.
Models are wanted as by Zipf's law, by 50 tenants, and other ones from half of the time on; one job in fifty
is urgent. An image takes one worker 0.5 to 4 seconds, a load 5 to 20 from disk, and 1 to 3 of the last four
models, which wait in the worker's memory.
"""

import argparse
import random
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from bench.simulated_farm import ASK, URGENT, Arrival, Model, Outcome, Policy, Simulation, Worker
from img2img_shared.placement import Position

TENANTS = 50


def by_demand(farm: Simulation, worker: Worker) -> str | None:
    """The farm's own policy."""
    if farm.now - worker.asked < ASK:
        return None
    worker.asked = farm.now
    own = {name: farm.models[name].from_memory for name in worker.memory} | {
        name: seconds for name, seconds in worker.own_loads.items() if name == worker.model
    }
    position = Position(
        model=worker.model, models=farm.models, stayed=farm.now - worker.since, load_seconds=own
    )
    return farm.placement().next_model(position)


def first_come(farm: Simulation, _: Worker) -> str | None:
    """The model of the image that came first among those of the highest priority."""
    waiting = [name for name, queue in farm.queues.items() if queue.by_share]
    return min(waiting, key=lambda name: farm.queues[name].first, default=None)


def own_first(farm: Simulation, worker: Worker) -> str | None:
    """The loaded model as long as anything waits for it, then that of the image that came first."""
    if worker.model is not None and farm.queues[worker.model].by_share:
        return None
    return first_come(farm, worker)


def assigned(shares: dict[str, float], workers: int) -> Policy:
    """Each worker keeps one model; each model has workers by its share of the work at first."""
    extra = workers - len(shares)
    pool = list(shares)
    for name, share in sorted(shares.items(), key=lambda each: -each[1]):
        pool += [name] * round(share * extra)
    fixed = [pool[number % len(pool)] for number in range(workers)]
    return lambda _, worker: fixed[worker.number]


def workload(
    models: list[Model], popularity: list[float], seconds: float, rate: float, chance: random.Random
) -> Iterator[Arrival]:
    """Jobs whose images keep `rate` workers busy on average; halfway, the models exchange their shares."""
    now = 0.0
    mean_images = 20.0
    mean_work = sum(share * model.image_seconds for share, model in zip(popularity, models, strict=True))
    while (now := now + chance.expovariate(rate / (mean_images * mean_work))) < seconds:
        order = models if now < seconds / 2 else models[::-1]
        model = chance.choices(order, popularity)[0]
        is_urgent = chance.random() < 0.02
        images = chance.randint(1, 4) if is_urgent else max(1, round(chance.expovariate(1 / mean_images)))
        tenant = f"tenant-{chance.randrange(TENANTS)}"
        priority = URGENT if is_urgent else 0
        yield Arrival(at=now, model=model.name, tenant=tenant, priority=priority, images=images)


def percentile(values: list[float], share: float) -> float:
    """The quantile of some values."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def compare(workers: int, n_models: int, seconds: float, load: float, seed: int = 1) -> dict[str, Outcome]:
    """Each policy's outcome with the same work."""
    chance = random.Random(seed)
    models = [
        Model(
            name=f"model-{number:02}",
            image_seconds=chance.uniform(0.5, 4),
            from_disk=chance.uniform(5, 20),
            from_memory=chance.uniform(1, 3),
        )
        for number in range(n_models)
    ]
    weights = [1 / (rank + 1) ** 1.2 for rank in range(n_models)]
    popularity = [each / sum(weights) for each in weights]
    arrivals = list(workload(models, popularity, seconds, load * workers, chance))
    work = {model.name: share * model.image_seconds for model, share in zip(models, popularity, strict=True)}
    shares = {name: each / sum(work.values()) for name, each in work.items()}
    policies: dict[str, Policy] = {
        "by demand (ours)": by_demand,
        "static assignment": assigned(shares, workers),
        "first come": first_come,
        "own model first": own_first,
    }
    return {
        name: Simulation(models, arrivals, workers, seconds, policy).run()
        for name, policy in policies.items()
    }


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--workers", type=int, default=1000)
    options.add_argument("--models", type=int, default=20)
    options.add_argument("--minutes", type=float, default=60)
    options.add_argument(
        "--load", type=float, default=0.8, help="Work that comes, as a share of all workers."
    )
    given = options.parse_args()
    seconds = 60 * given.minutes
    table = Table(
        "policy",
        "rendering",
        "loading",
        "loads",
        "mean wait",
        "99%",
        "longest",
        "rarest models",
        "urgent 99%",
    )
    table.title = f"{given.workers} workers, {given.models} models, load {given.load}; seconds"
    for name, outcome in compare(given.workers, given.models, seconds, given.load).items():
        everything = [each for waits in outcome.waits.values() for each in waits]
        rare = sorted(outcome.waits.values(), key=len)[: max(1, given.models // 4)]
        of_rare = [each for waits in rare for each in waits]
        capacity = given.workers * seconds
        table.add_row(
            name,
            f"{outcome.rendering / capacity:.0%}",
            f"{outcome.loading / capacity:.1%}",
            str(outcome.loads),
            f"{sum(everything) / len(everything):.1f}",
            f"{percentile(everything, 0.99):.0f}",
            f"{max(everything):.0f}",
            f"{sum(of_rare) / len(of_rare):.1f}",
            f"{percentile(outcome.urgent, 0.99):.1f}",
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
