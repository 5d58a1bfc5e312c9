"""Decides which model a worker should have loaded: by what waits, who has what, and what a load costs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

#: seconds of work that must be left for each worker, for each second of a load, before one more loads a model
WORTH = 2.0
#: share of all workers' time that may go into loads for models which wait while others have workers
OVERHEAD = 0.1
#: seconds, at least and at most, that images wait before a worker leaves others of their priority for them
LEAST_PATIENCE, MOST_PATIENCE = 5.0, 300.0
#: seconds for which a busy worker leaves a model that nobody has to an idle one
IDLE_FIRST = 2.0
#: loads for which a worker stays where it is needed less than elsewhere
STAY = 10.0
#: by how much a model must lack workers for its share of the work before one leaves another for it
MARGIN = 1.5
#: workers that may die of loading a model in ten minutes, before others leave it alone
DEADLY = 2
#: seconds of a load, and of an image, where nobody has measured any
LOAD, IMAGE = 10.0, 1.0


@dataclass(frozen=True, kw_only=True)
class WaitingImages:
    """Images of one tenant and one priority that could be claimed."""

    priority: int
    tenant: str
    images: int


@dataclass(frozen=True, kw_only=True)
class ModelDemand:
    """The work for one model, and the workers that have it."""

    model: str
    waiting: tuple[WaitingImages, ...] = ()
    #: that have it loaded, or are loading it
    workers: int = 0
    #: seconds for which images have waited and nobody had it
    starved: float = 0.0
    #: that a load of it took last, and an image of it lately; None: nobody has said
    load_seconds: float | None = None
    image_seconds: float | None = None
    #: workers that died of loading it in the last ten minutes
    deaths: int = 0
    #: whether somebody takes back its leases and brings its tickets
    has_janitor: bool = True

    @cached_property
    def priority(self) -> int | None:
        """The highest priority that waits, or None."""
        return max((each.priority for each in self.waiting), default=None)

    def work(self, above: int | None = None) -> float:
        """Seconds of one worker's time for the waiting images of priorities above that one."""
        images = sum(each.images for each in self.waiting if above is None or each.priority > above)
        return images * (self.image_seconds or IMAGE)


@dataclass(frozen=True, kw_only=True)
class Position:
    """The state of one worker."""

    #: that it has loaded; None: none
    model: str | None
    #: that it can load
    models: Collection[str]
    #: whether it has images in hand
    is_busy: bool = False
    #: seconds since it has loaded its model
    stayed: float = 0.0
    #: that its own loads took, by model
    load_seconds: Mapping[str, float] = field(default_factory=dict)


class Placement:
    """The demand for all models at one moment, from which each worker is told what to load."""

    def __init__(self, demands: Sequence[ModelDemand]) -> None:
        self.demands = {each.model: each for each in demands}
        self._weights: dict[int, dict[str, float]] = {}

    def next_model(self, worker: Position) -> str | None:
        """The model that a worker should load in place of its own; None: it should keep that.

        A worker leaves its model

        - for images of a higher priority, and when nothing waits for its own;
        - for one that nobody has and whose images have waited so long that it is worth it: loads for such
          models take `OVERHEAD` of the workers' time, or more if they would wait longer than five minutes;
        - for one that has fewer workers for its share of the work. Within a priority, tenants share the
          workers equally, and the models of each tenant share them by their work.

        No worker loads a model that others have unless `WORTH` loads' worth of work would be left for each of
        them, nor a model that others have died of.
        """
        own = self.demands.get(worker.model or "", ModelDemand(model=worker.model or ""))
        others = [
            each
            for each in self.demands.values()
            if each.model != worker.model
            and each.priority is not None
            and each.model in worker.models
            and each.deaths < DEADLY
        ]
        return (
            self._urgent(worker, own, others)
            or self._find_starved(worker, own, others)
            or self._find_underserved(worker, own, others)
        )

    def _urgent(self, worker: Position, own: ModelDemand, others: Sequence[ModelDemand]) -> str | None:
        """A model with images of a higher priority than all that wait for the worker's own model."""
        priority, is_idle = own.priority, own.priority is None and not worker.is_busy
        found = [
            each
            for each in others
            if (priority is None or _top(each) > priority)
            and (is_idle or each.workers or each.starved >= IDLE_FIRST)
            and self._is_worth_it(worker, each, above=priority)
        ]
        best = max(found, key=lambda each: (_top(each), not each.workers, self._pressure(each)), default=None)
        return None if best is None else best.model

    def _find_starved(self, worker: Position, own: ModelDemand, others: Sequence[ModelDemand]) -> str | None:
        """A model of the same priority that has waited for too long."""
        starving = [each for each in others if not each.workers and each.priority == own.priority]
        if not starving:
            return None
        longest = max(starving, key=lambda each: each.starved)
        loads = self._load(worker, own) + self._load(worker, longest)
        everybody = sum(each.workers for each in self.demands.values()) or 1
        patience = min(max(loads * len(starving) / (OVERHEAD * everybody), LEAST_PATIENCE), MOST_PATIENCE)
        if own.workers < 2 and any(
            each.workers > 1 for each in self.demands.values() if _top(each) <= _top(own)
        ):
            patience *= 2  # they have one to spare
        return longest.model if longest.starved >= patience else None

    def _find_underserved(
        self, worker: Position, own: ModelDemand, others: Sequence[ModelDemand]
    ) -> str | None:
        """A model that has fewer workers for its share than the worker's own model has."""
        if own.priority is None or worker.stayed < STAY * self._load(worker, own):
            return None
        weights = self._weights_of(own.priority)
        found = [
            each
            for each in others
            if each.priority == own.priority
            and MARGIN * (each.workers + 1) * weights[own.model] < own.workers * weights[each.model]
            and each.work(own.priority - 1) / (each.workers + 1) >= WORTH * self._load(worker, each)
        ]
        best = max(found, key=self._pressure, default=None)
        return None if best is None else best.model

    def _is_worth_it(self, worker: Position, demand: ModelDemand, above: int | None) -> bool:
        if not demand.workers:
            return True
        return demand.work(above) / (demand.workers + 1) >= WORTH * self._load(worker, demand)

    def _pressure(self, demand: ModelDemand) -> float:
        if not demand.workers or demand.priority is None:
            return demand.starved
        return self._weights_of(demand.priority)[demand.model] / (demand.workers + 1)

    def _load(self, worker: Position, demand: ModelDemand) -> float:
        return worker.load_seconds.get(demand.model) or demand.load_seconds or LOAD

    def _weights_of(self, priority: int) -> dict[str, float]:
        """How many tenants' shares each model with this highest priority should get."""
        if priority not in self._weights:
            among = [each for each in self.demands.values() if each.priority == priority]
            work: dict[str, float] = {}
            for demand, each in _of_priority(among, priority):
                work[each.tenant] = work.get(each.tenant, 0.0) + _seconds(demand, each)
            weights = {demand.model: 0.0 for demand in among}
            for demand, each in _of_priority(among, priority):
                weights[demand.model] += _seconds(demand, each) / work[each.tenant]
            self._weights[priority] = weights
        return self._weights[priority]


def _top(demand: ModelDemand) -> float:
    return float("-inf") if demand.priority is None else demand.priority


def _of_priority(demands: Sequence[ModelDemand], priority: int) -> list[tuple[ModelDemand, WaitingImages]]:
    return [(demand, each) for demand in demands for each in demand.waiting if each.priority == priority]


def _seconds(demand: ModelDemand, waiting: WaitingImages) -> float:
    return waiting.images * (demand.image_seconds or IMAGE)
