"""A worker's metrics on images and claims, and on its engine and device."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from img2img_shared.metrics import LONG
from img2img_shared.records import Claim
from img2img_worker.engine.engine import Engine
from img2img_worker.farm import memory
from img2img_worker.farm.current_model import CurrentModel
from img2img_worker.farm.events import (
    BackInService,
    Claimed,
    Event,
    Failed,
    Finished,
    Interrupted,
    LetGo,
    Loaded,
    Lost,
    OutOfMemory,
    OutOfService,
    Prepared,
    PutBack,
    Rendered,
    Stepped,
    StoreFailed,
    TakenBack,
    TooLate,
)


@dataclass
class _Way:
    """How far an image has come."""

    since: float = field(default_factory=time.monotonic)
    stage: str = "preparing"


class MetricsObserver:
    """Counts events. Those without an image count for the model that is loaded.

    An image's stages follow one another: ``waiting`` (from its job's submission until it is claimed),
    ``preparing`` (fetched, decoded, resized), ``encoding`` (its texts and picture; it waits for a slot, and
    makes its first step), ``steps``, ``decoding`` and ``storing``. Those of a second pass count as steps.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._model = ""
        self._ways: dict[Claim, _Way] = {}
        self._lock = threading.Lock()
        self._images = Counter(
            "img2img_images",
            "Attempts at images that ended in this worker, by how.",
            ["model", "tenant", "outcome"],
            registry=registry,
        )
        self._stages = Histogram(
            "img2img_image_stage_seconds",
            "Time that images spent in each stage; waiting counts from their job's submission.",
            ["model", "stage"],
            buckets=LONG,
            registry=registry,
        )
        self._held = Gauge(
            "img2img_images_held", "Images in this worker's hands.", ["model"], registry=registry
        )
        self._loads = Counter("img2img_model_loads", "Checkpoints loaded.", ["model"], registry=registry)
        self._load_seconds = Gauge(
            "img2img_model_load_seconds",
            "Time that the last load took; of the first one, since the process was started.",
            ["model"],
            registry=registry,
        )
        self._memory_errors = Counter(
            "img2img_out_of_memory",
            "Times the device had no room for what was in flight.",
            ["model"],
            registry=registry,
        )
        self._taken_back = Counter(
            "img2img_leases_expired",
            "Leases of other workers that ran out, and were ended by this one, by what became of the image.",
            ["model", "outcome"],
            registry=registry,
        )
        self._store_errors = Counter(
            "img2img_store_errors", "Calls to the store that failed.", ["model"], registry=registry
        )
        self._in_service = Gauge(
            "img2img_worker_in_service",
            "1: the worker claims images; 0: it has said why not.",
            ["model"],
            registry=registry,
        )

    def __call__(self, event: Event) -> None:
        """Count an event."""
        match event:
            case Loaded(worker=worker, seconds=seconds):
                if self._model not in ("", worker.model):
                    self._in_service.remove(self._model)
                self._model = worker.model
                self._loads.labels(self._model).inc()
                self._load_seconds.labels(self._model).set(seconds)
                self._in_service.labels(self._model).set(1)
            case OutOfService():
                self._in_service.labels(self._model).set(0)
            case BackInService():
                self._in_service.labels(self._model).set(1)
            case OutOfMemory():
                self._memory_errors.labels(self._model).inc()
            case TakenBack(leases=leases):
                self._taken_back.labels(self._model, "handed_back").inc(leases.handed_back)
                self._taken_back.labels(self._model, "suspect").inc(leases.suspects)
                self._taken_back.labels(self._model, "failed").inc(leases.failed)
            case StoreFailed():
                self._store_errors.labels(self._model).inc()
            case Claimed(claim=claim):
                self._begin(claim)
            case Prepared(claim=claim):
                self._reach(claim, "preparing", "encoding")
            case Stepped(claim=claim, done=1):
                self._reach(claim, "encoding", "steps")
            case Stepped(claim=claim, done=done, total=total) if done == total:
                self._reach(claim, "steps", "decoding")
            case Rendered(claim=claim):
                self._reach(claim, "", "storing")
            case Finished(claim=claim):
                self._reach(claim, "storing", "done")
                self._count(claim, "done")
            case Failed(claim=claim):
                self._count(claim, "failed")
            case PutBack(claim=claim):
                self._count(claim, "put_back")
            case Lost(claim=claim, cancelled=cancelled):
                self._count(claim, "cancelled" if cancelled else "lease_lost")
            case Interrupted(claim=claim):
                self._count(claim, "interrupted")
            case TooLate(claim=claim):
                self._count(claim, "too_late")
            case LetGo(claim=claim):
                self._held.labels(claim.model).dec()
                with self._lock:
                    self._ways.pop(claim, None)

    def _begin(self, claim: Claim) -> None:
        self._held.labels(claim.model).inc()
        self._stages.labels(claim.model, "waiting").observe(claim.waited)
        with self._lock:
            self._ways[claim] = _Way()

    def _reach(self, claim: Claim, before: str, stage: str) -> None:
        """`claim` leaves the stage `before` ("": any) and enters `stage`, if it is in `before`."""
        now = time.monotonic()
        with self._lock:
            way = self._ways.get(claim)
            if way is None or way.stage not in (before or way.stage,):
                return
            left, seconds = way.stage, now - way.since
            way.stage, way.since = stage, now
        self._stages.labels(claim.model, left).observe(seconds)

    def _count(self, claim: Claim, outcome: str) -> None:
        self._images.labels(claim.model, claim.tenant, outcome).inc()


class EngineCollector(Collector):
    """The figures of the loaded model's engine, read when they are asked for."""

    def __init__(self, current: CurrentModel, device: torch.device) -> None:
        self._current = current
        self._device = device

    def collect(self) -> Iterable[Metric]:
        """As Prometheus' client calls it."""
        if (loaded := self._current.loaded) is not None:
            yield from _engine_metrics(loaded.served.model, loaded.engine)
        used, total = memory.on_device(self._device)
        if total:
            sizes = GaugeMetricFamily("img2img_device_memory_bytes", "The device's memory.", labels=["kind"])
            sizes.add_metric(["used"], used)
            sizes.add_metric(["total"], total)
            yield sizes


def _engine_metrics(model: str, engine: Engine) -> Iterable[Metric]:
    counts = engine.counts
    yield _counter("img2img_engine_calls", "Model calls.", model, counts.calls)
    about = "Model calls of single images, of all their rows."
    yield _counter("img2img_engine_steps", about, model, counts.image_calls)
    rows = CounterMetricFamily("img2img_engine_rows", "Rows of model calls.", labels=["model", "kind"])
    rows.add_metric([model, "image"], counts.rows)
    rows.add_metric([model, "padding"], counts.padding)
    yield rows
    slots = GaugeMetricFamily(
        "img2img_engine_slots",
        "Slots: all; those filled for now, where memory was short; those in use.",
        labels=["model", "kind"],
    )
    slots.add_metric([model, "all"], engine.slots)
    slots.add_metric([model, "limit"], engine.limit)
    slots.add_metric([model, "used"], engine.in_flight)
    yield slots


def _counter(name: str, about: str, model: str, value: float) -> CounterMetricFamily:
    family = CounterMetricFamily(name, about, labels=["model"])
    family.add_metric([model], value)
    return family
