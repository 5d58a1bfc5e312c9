"""What a worker and a gateway count, by what they are told."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from prometheus_client import REGISTRY, CollectorRegistry

from img2img_gateway import gateway_metrics as gateway_metrics
from img2img_gateway import webhook_deliveries
from img2img_shared.errors import Refused
from img2img_shared.ledger import Ledger
from img2img_shared.ledger.connect import connect
from img2img_shared.metrics import serve_metrics, time_ledger
from img2img_shared.records import Claim, ExpiredLeases, WorkerInfo
from img2img_shared.settings import Settings
from img2img_worker.engine.engine import Engine
from img2img_worker.farm import events
from img2img_worker.farm.metrics_observer import EngineCollector, MetricsObserver
from img2img_worker.models.checkpoints.loading import load
from tests.checkpoints import cached, sd1
from tests.loaded_model import current_model
from tests.servers import RedisServer

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def claim(index: int = 0) -> Claim:
    return Claim(
        job_id="j",
        tenant="t",
        index=index,
        attempt=1,
        model="m",
        worker="w",
        nonce=str(index),
        alone=False,
        waited=3.0,
    )


def loaded(model: str) -> events.Loaded:
    info = WorkerInfo(id="w", model=model, device="cpu", slots=1)
    return events.Loaded(worker=info, family="SD 1.x", memory="", seconds=2.0)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_an_image_passes_every_stage_once(registry: CollectorRegistry) -> None:
    observe, one = MetricsObserver(registry), claim()
    observe(events.Claimed(claim=one))
    assert registry.get_sample_value("img2img_images_held", {"model": "m"}) == 1
    observe(events.Prepared(claim=one))
    for done in range(1, 5):
        observe(events.Stepped(claim=one, done=done, total=4))
    observe(events.Rendered(claim=one))
    observe(events.Finished(claim=one, seconds=1.0))
    observe(events.LetGo(claim=one))
    stages = ("waiting", "preparing", "encoding", "steps", "decoding", "storing")
    assert [
        registry.get_sample_value("img2img_image_stage_seconds_count", {"model": "m", "stage": stage})
        for stage in stages
    ] == [1.0] * len(stages)
    assert (
        registry.get_sample_value("img2img_image_stage_seconds_sum", {"model": "m", "stage": "waiting"})
        == 3.0
    )
    labels = {"model": "m", "tenant": "t", "outcome": "done"}
    assert registry.get_sample_value("img2img_images_total", labels) == 1
    assert registry.get_sample_value("img2img_images_held", {"model": "m"}) == 0


def test_a_second_pass_counts_as_steps(registry: CollectorRegistry) -> None:
    observe, one = MetricsObserver(registry), claim()
    observe(events.Claimed(claim=one))
    for done, total in ((1, 2), (2, 2), (3, 4), (4, 4)):
        observe(events.Prepared(claim=one))
        observe(events.Stepped(claim=one, done=done, total=total))
    observe(events.Rendered(claim=one))
    count = {
        stage: registry.get_sample_value("img2img_image_stage_seconds_count", {"model": "m", "stage": stage})
        for stage in ("preparing", "encoding", "steps", "decoding")
    }
    assert count == {"preparing": 1, "encoding": 1, "steps": 1, "decoding": 1}


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (events.Failed(claim=claim(), reason="no"), "failed"),
        (events.PutBack(claim=claim(), reason=""), "put_back"),
        (events.Lost(claim=claim(), cancelled=True, holder=None), "cancelled"),
        (events.Lost(claim=claim(), cancelled=False, holder="v"), "lease_lost"),
        (events.Interrupted(claim=claim()), "interrupted"),
        (events.TooLate(claim=claim()), "too_late"),
    ],
)
def test_how_an_attempt_ends(registry: CollectorRegistry, event: events.Event, outcome: str) -> None:
    MetricsObserver(registry)(event)
    labels = {"model": "m", "tenant": "t", "outcome": outcome}
    assert registry.get_sample_value("img2img_images_total", labels) == 1


def test_what_befalls_the_worker(registry: CollectorRegistry) -> None:
    observe = MetricsObserver(registry)
    observe(loaded("m"))
    observe(events.OutOfService(reason="no store", detail="no store"))
    assert registry.get_sample_value("img2img_worker_in_service", {"model": "m"}) == 0
    observe(events.BackInService(seconds=1.0))
    observe(events.OutOfMemory(slots=1, put_back=2))
    observe(events.StoreFailed(claim=claim()))
    observe(events.TakenBack(leases=ExpiredLeases(handed_back=1, suspects=2, failed=3)))
    found = [
        registry.get_sample_value(name, {"model": "m"})
        for name in ("img2img_worker_in_service", "img2img_out_of_memory_total", "img2img_store_errors_total")
    ]
    assert found == [1, 1, 1]
    expired = [
        registry.get_sample_value("img2img_leases_expired_total", {"model": "m", "outcome": outcome})
        for outcome in ("handed_back", "suspect", "failed")
    ]
    assert expired == [1, 2, 3]


def test_loads_are_counted_by_model_and_one_is_in_service(registry: CollectorRegistry) -> None:
    observe = MetricsObserver(registry)
    for model in ("a", "b", "a"):
        observe(loaded(model))
    found = {
        (name, model): registry.get_sample_value(name, {"model": model})
        for name in ("img2img_model_loads_total", "img2img_worker_in_service")
        for model in ("a", "b")
    }
    assert found == {
        ("img2img_model_loads_total", "a"): 2,
        ("img2img_model_loads_total", "b"): 1,
        ("img2img_worker_in_service", "a"): 1,
        ("img2img_worker_in_service", "b"): None,
    }


@pytest.fixture
def ledger(registry: CollectorRegistry) -> Iterator[Ledger]:
    server = RedisServer()
    with connect(server.url) as redis:
        time_ledger(redis, registry)
        yield Ledger(redis)
    server.remove()


def test_the_document_lists_what_is_shown(
    registry: CollectorRegistry, ledger: Ledger, tmp_path_factory: pytest.TempPathFactory
) -> None:
    MetricsObserver(registry)
    registry.register(gateway_metrics.FarmCollector(ledger))
    family = load(str(cached(tmp_path_factory, sd1)), Settings(device="cpu"))
    with Engine(family, slots=1) as engine:
        registry.register(EngineCollector(current_model(engine), torch.device("cpu")))
        own = {_listed(metric.name, metric.type) for metric in registry.collect()}
    assert gateway_metrics._REQUESTS
    assert webhook_deliveries._TRIES
    everywhere = {_listed(m.name, m.type) for m in REGISTRY.collect() if m.name.startswith("img2img_")}
    on_a_gpu = {"img2img_device_memory_bytes"}
    documented = set(re.findall(r"^\| `(img2img_\w+)`", DOCUMENT.read_text(), re.MULTILINE))
    assert documented == own | everywhere | on_a_gpu


def _listed(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


def test_an_address_that_is_taken_is_refused(registry: CollectorRegistry) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Refused, match="metrics"), serve_metrics(address, registry):
            pass
