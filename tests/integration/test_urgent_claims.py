"""A full worker claims what is more urgent than an image in hand, as soon as it is told."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from img2img_shared.errors import Unavailable
from img2img_shared.ledger import Ledger
from img2img_shared.records import Claim, Urgent
from img2img_worker.farm import urgent
from img2img_worker.farm.claim_loop import ClaimLoop
from img2img_worker.farm.current_model import CurrentModel
from img2img_worker.farm.events import Event
from img2img_worker.farm.leases import LeasedClaim, Leases
from img2img_worker.farm.urgent import UrgentClaims
from tests.integration.ledger_helpers import MODEL, Take, a_job, taken
from tests.loaded_model import current_model, loaded_model

#: seconds after which a test has hung
PATIENCE = 60


class Watched(Ledger):
    """A ledger whose looks find nothing until something was told, and that notes what is asked of it."""

    def __init__(self, redis: Any, asked: list[str], **more: Any) -> None:
        super().__init__(redis, **more)
        self.asked = asked
        self.is_told = False

    def most_urgent(self, model: str) -> int | None:
        self.asked.append("look")
        return super().most_urgent(model) if self.is_told else None

    def hear_urgent(self, model: str, after: str, seconds: float) -> tuple[Urgent | None, str]:
        told, heard = super().hear_urgent(model, after, seconds)
        if told is not None:
            self.asked.append(f"told {told.priority}")
            self.is_told = True
        return told, heard


class Worker:
    """A worker with one image in hand, which is all that it has threads for."""

    def __init__(self, ledger: Ledger, leases: Leases, current: CurrentModel) -> None:
        self.ledger = ledger
        self.leases = leases
        self.claimed: queue.SimpleQueue[Claim] = queue.SimpleQueue()
        self.events: list[Event] = []
        self.stopping = threading.Event()
        self._current = current

    def take(self, *, above: int | None = None) -> LeasedClaim | None:
        claim = self.ledger.claim(MODEL, "w", f"urgent-{above}", idle=False, above=above)
        return None if claim is None else self.leases.hold(claim, loaded_model(None, MODEL))

    def carry(self, held: LeasedClaim) -> None:
        self.claimed.put(held.claim)

    @contextmanager
    def looking(self) -> Iterator[None]:
        health: Any = SimpleNamespace(trouble=None)
        claim_loop: Any = self
        claims = UrgentClaims(
            ledger=self.ledger,
            leases=self.leases,
            health=health,
            claim_loop=claim_loop,
            current=self._current,
            full=1,
            most=1,
            stopping=self.stopping,
            observe=self.events.append,
        )
        claims.start()
        try:
            yield
        finally:
            self.stopping.set()
            claims.stop()


@pytest.fixture
def worker(farm_redis: Any, take: Take) -> Callable[..., Worker]:
    """Makes one whose image has some priority; by default, more of it wait."""

    def make(priority: int, *, n: int = 9) -> Worker:
        ledger = Watched(farm_redis, [], lease=3600.0)
        ledger.submit(a_job("job-aaaa", n, priority=priority))
        engine: Any = SimpleNamespace(slots=1)
        made = Worker(ledger, Leases(ledger, lambda _: None), current_model(engine, MODEL))
        made.leases.hold(taken(take), loaded_model(None, MODEL))
        return made

    return make


def test_it_is_told_and_claims_it(worker: Callable[..., Worker]) -> None:
    full = worker(0)
    with full.looking():
        full.ledger.submit(a_job("job-bbbb", 1, priority=3))
        assert full.claimed.get(timeout=PATIENCE).job_id == "job-bbbb"


def test_it_is_told_of_it_where_nothing_else_waits_and_leaves_it_to_workers_with_threads_first(
    worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = worker(0, n=1)
    waited: list[float | None] = []
    wait = full.stopping.wait

    def note(seconds: float | None = None) -> bool:
        waited.append(seconds)
        return wait(seconds)

    monkeypatch.setattr(full.stopping, "wait", note)
    with full.looking():
        full.ledger.submit(a_job("job-bbbb", 1, priority=3))
        assert full.claimed.get(timeout=PATIENCE).job_id == "job-bbbb"
    assert waited[:1] == [urgent.TICKETS_FIRST]


def test_of_what_is_less_urgent_than_all_in_hand_nothing_is_asked(
    worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = worker(5)
    told = iter([(3, "1-0"), (5, "2-0"), (7, "3-0")])
    asked: list[str] = []

    def hear(_model: str, after: str, _seconds: float) -> tuple[Urgent | None, str]:
        priority, heard = next(told, (None, after))
        if priority is None:
            full.stopping.wait()
            return None, after
        asked.append(f"told {priority} after {after}")
        if priority == 7:
            full.ledger.submit(a_job("job-bbbb", 1, priority=7))
        return Urgent(priority=priority, is_only=False), heard

    def look(model: str) -> int | None:
        asked.append("look")
        return Ledger.most_urgent(full.ledger, model)

    monkeypatch.setattr(urgent, "EVERY", 1e9)
    monkeypatch.setattr(full.ledger, "hear_urgent", hear)
    monkeypatch.setattr(full.ledger, "most_urgent", look)
    with full.looking():
        assert full.claimed.get(timeout=PATIENCE).job_id == "job-bbbb"
    assert asked[:5] == ["look", "told 3 after 0", "told 5 after 1-0", "told 7 after 2-0", "look"]


def test_redis_is_asked_nothing_while_there_are_threads_left(
    worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = worker(0)
    monkeypatch.setattr(idle, "leases", Leases(idle.ledger, lambda _: None))  # nothing in hand
    asked: list[str] = []
    waited = threading.Semaphore(0)
    wait = idle.stopping.wait

    def note(seconds: float | None = None) -> bool:
        waited.release()
        return wait(seconds)

    def hear(_model: str, after: str, _seconds: float) -> tuple[Urgent | None, str]:
        asked.append("hear")
        return None, after

    monkeypatch.setattr(urgent, "EVERY", 0.01)
    monkeypatch.setattr(idle.ledger, "hear_urgent", hear)
    monkeypatch.setattr(idle.ledger, "most_urgent", lambda _: asked.append("look"))
    monkeypatch.setattr(idle.stopping, "wait", note)
    with idle.looking():
        for _ in range(3):
            assert waited.acquire(timeout=PATIENCE)
    assert asked == []


def test_what_nobody_told_of_is_found_by_a_look(
    worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = worker(0)
    monkeypatch.setattr(full.ledger, "hear_urgent", lambda _model, after, _seconds: (None, after))
    monkeypatch.setattr(full.ledger, "is_told", True)
    monkeypatch.setattr(urgent, "EVERY", 0.01)
    with full.looking():
        full.ledger.submit(a_job("job-bbbb", 1, priority=3))
        assert full.claimed.get(timeout=PATIENCE).job_id == "job-bbbb"


def test_it_goes_on_when_redis_was_away(
    worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = worker(0)
    hear, fails = full.ledger.hear_urgent, iter([True, True])

    def away(*arguments: Any) -> tuple[Urgent | None, str]:
        if next(fails, False):
            raise Unavailable("Redis does not answer")
        return hear(*arguments)

    monkeypatch.setattr(urgent, "EVERY", 0.01)
    monkeypatch.setattr(full.ledger, "hear_urgent", away)
    with full.looking():
        full.ledger.submit(a_job("job-bbbb", 1, priority=3))
        assert full.claimed.get(timeout=PATIENCE).job_id == "job-bbbb"
    assert len(full.events) == 2


def test_the_engine_is_told_before_the_pictures_are_there(ledger: Ledger) -> None:
    expected: list[int] = []
    engine: Any = SimpleNamespace(slots=1, expect=expected.append)
    nothing: Any = None
    claim_loop = ClaimLoop(
        ledger=ledger,
        store=nothing,
        store_check=nothing,
        current=current_model(engine, MODEL),
        files=nothing,
        upscalers=nothing,
        face_restorers=nothing,
        other_workers=nothing,
        tile_jobs=nothing,
        leases=Leases(ledger, lambda _: None),
        health=nothing,
        worker="w",
        stopping=threading.Event(),
        observe=lambda _: None,
    )
    ledger.submit(a_job("job-aaaa", 1, priority=3))
    assert claim_loop.take(above=3) is None
    assert claim_loop.take(above=2) is not None
    assert expected == [3]
