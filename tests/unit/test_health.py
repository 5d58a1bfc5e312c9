"""When a worker claims nothing, and what an error says of an image."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from img2img_shared.errors import FarmError, Refused, StoreError, Unavailable, WireError, WorkerError
from img2img_worker.farm.events import BackInService, Event, OutOfService
from img2img_worker.farm.health import OUTDONE, Check, Health
from img2img_worker.farm.leases import Stopped
from img2img_worker.farm.travel.model_cache import NoRoom
from img2img_worker.farm.verdict import Blame, judge


class Part:
    """Something that a worker needs: it works, or does not."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.looks = 0

    def __call__(self) -> None:
        self.looks += 1
        if self.error is not None:
            raise self.error


class Worker:
    """A worker's health, with parts to break."""

    def __init__(self, longest: float = 0.0) -> None:
        self.store, self.rendering = Part(), Part()
        self.events: list[Event] = []
        self.stopping = threading.Event()
        self.health = Health(
            store=Check(self.store),
            rendering=Check(self.rendering),
            stopping=self.stopping,
            longest=longest,
            observe=self.events.append,
        )


@pytest.fixture
def worker() -> Worker:
    return Worker()


FULL = StoreError(
    "cannot write x in /mnt/farm: full", transient=True, reason="the store cannot write x: full"
)
GONE = StoreError("there is no such object", transient=False, missing=True)


def test_a_worker_whose_store_fails_claims_nothing_until_a_check_passes(worker: Worker) -> None:
    worker.store.error = FULL
    assert worker.health.check_store() == "the store cannot write x: full"
    worker.health.round()
    worker.store.error = None
    worker.health.round()
    worker.health.wait()
    out, back = worker.events
    assert out == OutOfService(reason="the store cannot write x: full", detail=str(FULL))
    assert isinstance(back, BackInService)


def test_a_worker_that_is_to_end_waits_for_nothing(worker: Worker) -> None:
    worker.health.obey("it was disabled")
    worker.stopping.set()
    worker.health.wait()
    assert worker.health.trouble == "it was disabled"


def test_a_check_that_cannot_tell_changes_nothing(worker: Worker) -> None:
    worker.store.error = Unavailable("Redis is away")
    assert worker.health.check_store() is None
    worker.store.error = FULL
    worker.health.check_store()
    worker.store.error = Unavailable("Redis is away")
    assert worker.health.check_store() == FULL.reason


def test_all_who_ask_while_a_check_runs_share_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    enter, go, asked = threading.Event(), threading.Event(), threading.Semaphore(0)
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        enter.set()
        assert go.wait(120)

    def clock() -> float:
        now = time.monotonic()
        asked.release()
        return now

    check = Check(look)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(check.now)
        assert enter.wait(120)
        monkeypatch.setattr("img2img_worker.farm.health.time", SimpleNamespace(monotonic=clock))
        others = [pool.submit(check.now) for _ in range(7)]
        assert all(asked.acquire(timeout=120) for _ in others)
        go.set()
        assert [each.result() for each in (first, *others)] == [None] * 8
    assert len(looks) == 2


def test_a_worker_that_renders_wrongly_is_tried_again(worker: Worker) -> None:
    worker.rendering.error = ValueError("grey")
    assert worker.health.check_all() == worker.health.cannot_render == "ValueError: grey"
    worker.rendering.error = None
    worker.health.round()
    worker.health.wait()
    assert worker.health.trouble is None


@pytest.mark.parametrize("tell", [Health.obey, Health.hang, Health.lack])
def test_what_else_keeps_a_worker_from_claiming_is_said_when_it_begins_and_when_it_is_over(
    worker: Worker, tell: Callable[[Health, str | None], None]
) -> None:
    for trouble in ("it was disabled", None):
        tell(worker.health, trouble)
        assert worker.health.trouble == trouble
    out, back = worker.events
    assert out == OutOfService(reason="it was disabled", detail="it was disabled")
    assert isinstance(back, BackInService)


def test_a_worker_that_others_outdo_is_not_trusted_for_a_while(worker: Worker) -> None:
    worker.health.compare(done=5, outdone=OUTDONE - 1, last_error="no such object")
    worker.health.compare(done=5, outdone=2 * OUTDONE - 2, last_error="no such object")
    assert worker.health.trouble is None
    worker.health.compare(done=5, outdone=2 * OUTDONE - 1, last_error="no such object")
    assert (
        worker.health.trouble == "others have done 3 images that it could not; its last error: no such object"
    )
    worker.health.round()  # its rest is over: `longest` is 0
    assert worker.health.trouble is None
    assert [type(event) for event in worker.events] == [OutOfService, BackInService]


def test_who_is_outdone_again_is_not_trusted_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("img2img_worker.farm.health.time", SimpleNamespace(monotonic=lambda: now))
    health = Worker(longest=10.0).health
    rests = []
    for number in range(1, 4):
        health.compare(done=0, outdone=number * OUTDONE, last_error=None)
        began = now
        while health.trouble is not None:
            now += 1
            health.round()
        rests.append(now - began)
    assert rests == [20, 40, 80]


def test_a_worker_that_does_its_part_may_fail_at_some_images(worker: Worker) -> None:
    for done in range(1, 4 * OUTDONE):
        worker.health.compare(done=done, outdone=done, last_error=None)
    assert worker.health.trouble is None


@pytest.mark.parametrize(
    ("error", "blame"),
    [
        (Stopped(), Blame.NOBODY),
        (CancelledError(), Blame.NOBODY),
        (Unavailable("Redis is away"), Blame.NOBODY),
        (WireError("version 9"), Blame.MOMENT),
        (MemoryError(), Blame.MOMENT),
        (FULL, Blame.MOMENT),
        (NoRoom("the disk is full"), Blame.MOMENT),
        (GONE, Blame.EITHER),
        *((Refused(field, "x", "y"), Blame.EITHER) for field in ("lora", "vae", "hypernetwork")),
        (Refused("sd_vae_decode_method", "TAESD", "y"), Blame.EITHER),
        (WorkerError("the latent is not finite"), Blame.EITHER),
        (ZeroDivisionError("division by zero"), Blame.EITHER),
        (Refused("control.model", "canny", "y"), Blame.EITHER),
        (Refused("image", "x", "a picture"), Blame.IMAGE),
        (FarmError("no"), Blame.IMAGE),
    ],
)
def test_who_is_to_blame_where_all_that_the_worker_needs_works(
    worker: Worker, error: Exception, blame: Blame
) -> None:
    assert judge(error, worker.health).blame is blame


@pytest.mark.parametrize("field", ["lora", "vae", "control.model", "upscaler", "checkpoint"])
def test_what_this_worker_lacks_and_others_have_is_theirs(worker: Worker, field: str) -> None:
    refused = Refused(field, "x", "y")
    verdict = judge(refused, worker.health, lambda error: ["b"] if error is refused else [])
    assert (verdict.blame, verdict.others) == (Blame.FILES, ["b"])
    assert judge(Refused("image", "x", "y"), worker.health, lambda _: ["b"]).blame is Blame.IMAGE


@pytest.mark.parametrize("error", [FULL, GONE])
def test_the_worker_is_to_blame_for_what_its_broken_store_gives(worker: Worker, error: Exception) -> None:
    worker.store.error = FULL
    worker.health.check_store()
    verdict = judge(error, worker.health)
    assert (verdict.blame, verdict.reason) == (Blame.WORKER, FULL.reason)


def test_an_error_that_nobody_foresaw_has_the_worker_tried_out(worker: Worker) -> None:
    worker.rendering.error = AttributeError("zlib has no decompress")
    verdict = judge(AttributeError("zlib has no decompress"), worker.health)
    assert (verdict.blame, verdict.reason) == (Blame.WORKER, "AttributeError: zlib has no decompress")
    assert verdict.error is not None
