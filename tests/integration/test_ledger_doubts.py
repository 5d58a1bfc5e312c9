"""What the ledger makes of an image that a worker could not do, and of a worker that others outdo."""

from collections.abc import Callable
from itertools import count

import pytest
from redis import Redis

from img2img_shared.job import ImageState, Job
from img2img_shared.ledger import FarmRedis, Ledger
from img2img_shared.params import Params
from img2img_shared.records import Claim, WorkerInfo, WorkerOrder, WorkerReport

MODEL = "sd15"
Take = Callable[[str], Claim | None]


@pytest.fixture
def ledger(farm_redis: FarmRedis) -> Ledger:
    """With a job of one image, and leases of an hour."""
    ledger = Ledger(farm_redis, lease=3600.0)
    ledger.submit(Job(id="job-0000", model=MODEL, params=Params(seed=1, subseed=1), n_inputs=1))
    return ledger


@pytest.fixture
def take(ledger: Ledger) -> Take:
    """What a worker is given, which beats beside."""
    numbers = count()
    return lambda worker: ledger.claim(MODEL, worker, f"nonce-{next(numbers)}", idle=False)


def live(ledger: Ledger, *workers: str) -> None:
    for worker in workers:
        ledger.beat(WorkerInfo(id=worker, model=MODEL, device="cpu", slots=1))


def taken(take: Take, worker: str) -> Claim:
    claim = take(worker)
    assert claim is not None
    return claim


def state(ledger: Ledger) -> tuple[ImageState, str | None]:
    (image,) = ledger.images("job-0000", "default")
    return image.state, image.reason


def test_a_second_worker_that_doubts_an_image_ends_it(ledger: Ledger, take: Take) -> None:
    live(ledger, "a", "b")
    assert ledger.doubt(taken(take, "a"), "no such object") is ImageState.PENDING
    assert state(ledger) == (ImageState.PENDING, None)
    assert ledger.doubt(taken(take, "b"), "no such\nobject") is ImageState.FAILED
    assert state(ledger) == (ImageState.FAILED, "no such\\nobject")


def test_who_doubts_an_image_leaves_it_to_others_at_once(ledger: Ledger, take: Take) -> None:
    live(ledger, "a", "b")
    ledger.doubt(taken(take, "a"), "no such object")
    assert take("a") is None
    assert ledger.finish(taken(take, "b"))


def test_an_image_that_the_only_worker_doubts_fails_at_once(ledger: Ledger, take: Take) -> None:
    live(ledger, "a")
    ledger.beat(WorkerInfo(id="b", model="another", device="cpu", slots=1))
    assert ledger.doubt(taken(take, "a"), "no such object") is ImageState.FAILED


def test_an_image_that_others_leave_to_who_doubts_it_fails_at_the_fifth_time(
    ledger: Ledger, take: Take, redis: Redis
) -> None:
    live(ledger, "a", "b")
    became = []
    for tries in range(1, 6):
        became.append(ledger.doubt(taken(take, "a"), "no such object"))
        redis.hset("{img2img}:job:job-0000:troubles", "0", f"{tries} 0 a")  # its time has come again
    assert became == [ImageState.PENDING] * 4 + [ImageState.FAILED]


def test_an_image_put_back_for_want_of_memory_is_not_doubted(ledger: Ledger, take: Take) -> None:
    live(ledger, "a", "b")
    ledger.release(taken(take, "a"), 0.0, "out of memory")
    assert ledger.doubt(taken(take, "b"), "no such object") is ImageState.PENDING


def test_a_doubt_of_a_cancelled_job_or_of_a_lost_claim_does_nothing(ledger: Ledger, take: Take) -> None:
    live(ledger, "a")
    claim = taken(take, "a")
    ledger.cancel("job-0000", "default")
    assert ledger.doubt(claim, "no such object")
    assert ledger.doubt(claim, "no such object") is None
    assert state(ledger) == (ImageState.CANCELLED, None)


def test_a_worker_hears_how_often_it_was_outdone(ledger: Ledger, take: Take) -> None:
    live(ledger, "a", "b")
    ledger.doubt(taken(take, "a"), "no such object")
    ledger.finish(taken(take, "b"))
    a, b = (WorkerInfo(id=worker, model=MODEL, device="cpu", slots=1) for worker in ("a", "b"))
    assert [ledger.beat(each).outdone for each in (a, b)] == [1, 0]


def test_a_worker_hears_what_it_is_ordered_to_do(ledger: Ledger) -> None:
    info = WorkerInfo(id="a", model=MODEL, device="cpu", slots=1)
    assert not ledger.order("a", WorkerOrder.DRAIN)  # it does not live
    assert ledger.beat(info).order is None
    assert ledger.order("a", WorkerOrder.DISABLE)
    assert ledger.beat(info).order is WorkerOrder.DISABLE
    assert ledger.order("a", None)
    assert ledger.beat(info).order is None


def test_a_workers_report_is_listed_with_it(ledger: Ledger) -> None:
    info = WorkerInfo(id="a", model=MODEL, device="cpu", slots=1)
    report = WorkerReport(trouble="the store is full", jobs=("job-0000",), done=3, rate=1.5, last_error="no")
    ledger.beat(info, report)
    (worker,) = ledger.workers()
    assert (worker.info, worker.report) == (info, report)
