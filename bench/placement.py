"""How long images wait, and how much workers load, by who decides which model a worker has: simulated.

    python -m bench.placement [--workers 1000] [--models 20] [--minutes 60] [--load 0.8]

Fake workers on a clock of their own ask the farm's own policy (`img2img_shared.placement`) as real ones do.
Models are wanted as by Zipf's law, by 50 tenants, and other ones from half of the time on; one job in fifty
is urgent. An image takes one worker 0.5 to 4 seconds, a load 5 to 20 from disk, and 1 to 3 of the last four
models, which wait in the worker's memory.
"""

import argparse
import heapq
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from rich.console import Console
from rich.table import Table

from img2img_shared.placement import ModelDemand, Placement, Position, WaitingImages

TENANTS = 50
#: seconds between two questions of one worker, for which an answer of Redis is kept
ASK = 1.0
#: models in a worker's memory beside the loaded one
IN_MEMORY = 4
URGENT = 10


@dataclass(frozen=True, kw_only=True)
class Model:
    name: str
    image_seconds: float
    from_disk: float
    from_memory: float


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A job."""

    at: float
    model: str
    tenant: str
    priority: int
    images: int


@dataclass
class Queue:
    """What waits for one model: as the ledger's, by priority, then by tenants in turn."""

    by_share: dict[tuple[int, str], deque[float]] = field(default_factory=dict)
    served: Counter[str] = field(default_factory=Counter)
    starved_since: float | None = None
    workers: int = 0
    _first: tuple[int, float] | None = None

    def put(self, arrival: Arrival) -> None:
        waiting = self.by_share.setdefault((arrival.priority, arrival.tenant), deque())
        waiting.extend([arrival.at] * arrival.images)
        self._first = None

    def take(self) -> tuple[int, float]:
        """Priority of the next image, and when it came."""
        priority, tenant = share = min(self.by_share, key=lambda each: (-each[0], self.served[each[1]]))
        self.served[tenant] += 1
        self._first = None
        came = self.by_share[share].popleft()
        if not self.by_share[share]:
            del self.by_share[share]
        return priority, came

    @property
    def first(self) -> tuple[int, float]:
        """For who takes them as they come: minus the highest priority, and when the oldest of it came."""
        if self._first is None:
            self._first = min((-priority, waiting[0]) for (priority, _), waiting in self.by_share.items())
        return self._first


@dataclass
class Worker:
    number: int
    model: str | None = None
    memory: OrderedDict[str, None] = field(default_factory=OrderedDict)
    own_loads: dict[str, float] = field(default_factory=dict)
    since: float = 0.0
    asked: float = -ASK


@dataclass
class Outcome:
    """What came of one policy."""

    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    urgent: list[float] = field(default_factory=list)
    #: the longest that images waited and no worker had their model, as far as somebody looked
    starved: float = 0.0
    loads: int = 0
    rendering: float = 0.0
    loading: float = 0.0


#: what a free worker should have loaded; None: what it has
Policy = Callable[["Simulation", Worker], str | None]


class Simulation:
    """One farm under one policy."""

    def __init__(
        self, models: list[Model], arrivals: list[Arrival], workers: int, seconds: float, policy: Policy
    ) -> None:
        self.models = {model.name: model for model in models}
        self.queues = {model.name: Queue() for model in models}
        self.workers = [Worker(number=number) for number in range(workers)]
        self.now = 0.0
        self.outcome = Outcome()
        self._seconds = seconds
        self._policy = policy
        self._numbers = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._placement: tuple[float, Placement] | None = None
        for arrival in arrivals:
            self._at(arrival.at, partial(self.queues[arrival.model].put, arrival))
        for worker in self.workers:  # they do not all ask at once
            self._at(ASK * worker.number / workers, partial(self._go_on, worker))

    def run(self) -> Outcome:
        """Until the time is over; what waits then has waited so long."""
        while self._events and self._events[0][0] < self._seconds:
            self.now, _, event = heapq.heappop(self._events)
            event()
        for name, queue in self.queues.items():
            for (priority, _), waiting in queue.by_share.items():
                for came in waiting:
                    self._note(name, priority, self._seconds - came)
        return self.outcome

    def placement(self) -> Placement:
        """As the ledger gives it: kept for a second, unless a worker has taken a model since."""
        if self._placement is None or self.now - self._placement[0] >= ASK:
            self._placement = self.now, Placement([self._demand(name) for name in self.queues])
        return self._placement[1]

    def _demand(self, name: str) -> ModelDemand:
        queue = self.queues[name]
        if queue.workers or not queue.by_share:
            queue.starved_since = None
        elif queue.starved_since is None:
            queue.starved_since = self.now
        starved = 0.0 if queue.starved_since is None else self.now - queue.starved_since
        self.outcome.starved = max(self.outcome.starved, starved)
        return ModelDemand(
            model=name,
            waiting=tuple(
                WaitingImages(priority=priority, tenant=tenant, images=len(waiting))
                for (priority, tenant), waiting in queue.by_share.items()
            ),
            workers=queue.workers,
            starved=starved,
            load_seconds=self.models[name].from_disk,
            image_seconds=self.models[name].image_seconds,
        )

    def _at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), event))

    def _go_on(self, worker: Worker) -> None:
        """A worker is free: it loads, or renders, or looks again later."""
        wanted = self._policy(self, worker)
        if wanted is not None and wanted != worker.model:
            self._load(worker, wanted)
        elif worker.model is not None and self.queues[worker.model].by_share:
            priority, came = self.queues[worker.model].take()
            self._note(worker.model, priority, self.now - came)
            seconds = self.models[worker.model].image_seconds
            self.outcome.rendering += min(seconds, self._seconds - self.now)
            self._at(self.now + seconds, partial(self._go_on, worker))
        else:
            self._at(self.now + ASK, partial(self._go_on, worker))

    def _load(self, worker: Worker, model: str) -> None:
        if worker.model is not None:
            self.queues[worker.model].workers -= 1
            worker.memory[worker.model] = None
            worker.memory.move_to_end(worker.model)
        is_in_memory = model in worker.memory
        worker.memory.pop(model, None)
        while len(worker.memory) > IN_MEMORY:
            worker.memory.popitem(last=False)
        self.queues[model].workers += 1
        self._placement = None
        costs = self.models[model]
        seconds = costs.from_memory if is_in_memory else costs.from_disk
        worker.model, worker.since = model, self.now + seconds
        worker.own_loads[model] = seconds
        self.outcome.loads += 1
        self.outcome.loading += min(seconds, self._seconds - self.now)
        self._at(worker.since, partial(self._go_on, worker))

    def _note(self, model: str, priority: int, seconds: float) -> None:
        if priority == URGENT:
            self.outcome.urgent.append(seconds)
        self.outcome.waits[model].append(seconds)


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
    """Whatever came first, of the highest priority."""
    waiting = [name for name, queue in farm.queues.items() if queue.by_share]
    return min(waiting, key=lambda name: farm.queues[name].first, default=None)


def own_first(farm: Simulation, worker: Worker) -> str | None:
    """The loaded model for as long as anything waits for it, then whatever came first."""
    if worker.model is not None and farm.queues[worker.model].by_share:
        return None
    return first_come(farm, worker)


def assigned(shares: dict[str, float], workers: int) -> Policy:
    """Each worker has one model for ever; each model as many workers as its share of the work at first."""
    extra = workers - len(shares)
    pool = list(shares)
    for name, share in sorted(shares.items(), key=lambda each: -each[1]):
        pool += [name] * round(share * extra)
    fixed = [pool[number % len(pool)] for number in range(workers)]
    return lambda _, worker: fixed[worker.number]


def workload(
    models: list[Model], popularity: list[float], seconds: float, rate: float, chance: random.Random
) -> Iterator[Arrival]:
    """Jobs whose images take `rate` workers on average; half-way the models change places."""
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
    """The value below which that share of them lies."""
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
