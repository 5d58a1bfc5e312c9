"""Simulates a farm of workers on a clock of its own, on which a policy places models."""

import heapq
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from img2img_shared.placement import ModelDemand, Placement, WaitingImages

#: seconds between two looks of a worker, and for which Redis' answer is cached
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
    """The images that wait for one model: as in the ledger, by priority, then by tenants in turn."""

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
        """The next image's priority, and when it came."""
        priority, tenant = share = min(self.by_share, key=lambda each: (-each[0], self.served[each[1]]))
        self.served[tenant] += 1
        self._first = None
        came = self.by_share[share].popleft()
        if not self.by_share[share]:
            del self.by_share[share]
        return priority, came

    @property
    def first(self) -> tuple[int, float]:
        """For first come, first served: minus the highest priority, and when its oldest image came."""
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
    """The outcome of one policy."""

    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    urgent: list[float] = field(default_factory=list)
    #: the longest time that images were seen waiting while no worker had their model
    starved: float = 0.0
    loads: int = 0
    rendering: float = 0.0
    loading: float = 0.0


#: the model that a free worker should load; None: it keeps its own
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
        for worker in self.workers:  # they do not all look at once
            self._at(ASK * worker.number / workers, partial(self._go_on, worker))

    def run(self) -> Outcome:
        """Run until the time is over; images that wait then count with their time so far."""
        while self._events and self._events[0][0] < self._seconds:
            self.now, _, event = heapq.heappop(self._events)
            event()
        for name, queue in self.queues.items():
            for (priority, _), waiting in queue.by_share.items():
                for came in waiting:
                    self._note(name, priority, self._seconds - came)
        return self.outcome

    def placement(self) -> Placement:
        """The demand as the ledger gives it: cached for a second, unless a worker has taken a model since."""
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
        """A worker is free: it loads a model, renders an image, or looks again later."""
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
