"""Keys that somebody deleted, and a Redis that forgot all: no model stops, and nothing is left behind."""

from collections.abc import Callable
from typing import Any

import pytest

from img2img_shared.errors import NotFound
from img2img_shared.job import ImageState
from img2img_shared.ledger import Ledger
from img2img_shared.records import Claim, Lost, Sweep, WorkerInfo
from tests.integration.ledger_helpers import FARM, MODEL, Take, a_job, die, due, run_out, taken

#: what is there while jobs wait, whichever these are
SHARED = {"arrivals", "cancels", "open", "waiting", "under_way", "workers", "served"}


def delete(raw: Any, job: str = "job-gone") -> None:
    assert raw.delete(f"{FARM}:job:{job}") == 1


def assert_nothing_is_left(raw: Any, job: str = "job-gone") -> None:
    assert raw.keys(f"{FARM}:job:{job}*") == []
    assert raw.hget(f"{FARM}:open", job) is None
    for key in raw.keys(f"{FARM}:model:*"):
        if raw.type(key) == b"zset":
            assert job.encode() not in raw.zrange(key, 0, -1)
    assert raw.zscore(f"{FARM}:tenant:default", job) is None


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("tenant", ["default", "other"])
def test_a_deleted_job_keeps_nobody_from_the_others(
    raw: Any, ledger: Ledger, take: Take, running: bool, tenant: str
) -> None:
    ledger.submit(a_job("job-gone", 10, idempotency_key="its key"))
    claim = taken(take) if running else None
    delete(raw)
    assert ledger.submit(a_job("job-next", 3, tenant=tenant)) == "job-next"
    assert [taken(take).job_id for _ in range(3)] == ["job-next"] * 3
    assert take() is None
    if claim is not None:
        assert not ledger.finish(claim)
    assert_nothing_is_left(raw)
    assert raw.keys(f"{FARM}:once:*") == []
    assert ledger.waiting(MODEL, 1000) == 0


ENDS: dict[str, Callable[[Ledger, Claim], object]] = {
    "finish": lambda ledger, claim: ledger.finish(claim),
    "fail": lambda ledger, claim: ledger.fail(claim, "no picture"),
    "release": lambda ledger, claim: ledger.release(claim),
    "release later": lambda ledger, claim: ledger.release(claim, 100.0),
    "trouble": lambda ledger, claim: ledger.release(claim, 100.0, "no memory"),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_running_image_of_a_deleted_job_ends_like_a_late_one(
    raw: Any, ledger: Ledger, take: Take, how: str
) -> None:
    ledger.submit(a_job("job-gone"))
    claim = taken(take)
    delete(raw)
    assert not ENDS[how](ledger, claim)
    assert_nothing_is_left(raw)
    assert raw.keys(f"{FARM}:worker:*:holding") == []


def test_a_worker_is_told_to_stop_images_of_a_deleted_job(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job("job-gone"))
    ledger.submit(a_job("job-here", tenant="other"))
    claims = [taken(take) for _ in range(2)]
    gone = next(claim for claim in claims if claim.job_id == "job-gone")
    delete(raw)
    assert ledger.renew(claims) == [Lost(claim=gone, cancelled=False)]
    assert_nothing_is_left(raw)


def test_a_claim_of_a_deleted_job_that_is_asked_for_again_is_another_one(raw: Any, ledger: Ledger) -> None:
    ledger.submit(a_job("job-gone", 1))
    ledger.claim(MODEL, "w", "nonce", idle=True)
    delete(raw)
    assert ledger.claim(MODEL, "w", "nonce", idle=True) is None
    ledger.submit(a_job("job-next", 1))
    claim = ledger.claim(MODEL, "w", "nonce", idle=True)
    assert claim is not None
    assert claim.job_id == "job-next"


@pytest.mark.parametrize("alive", [False, True])
def test_the_janitor_drops_what_ran_of_a_deleted_job(
    raw: Any, ledger: Ledger, take: Take, alive: bool
) -> None:
    if alive:
        ledger.beat(WorkerInfo(id="w", model=MODEL, device="cpu", slots=1))
    ledger.submit(a_job("job-gone"))
    claim = taken(take)
    delete(raw)
    run_out(raw, claim)
    assert ledger.take_back(MODEL, "janitor") == Sweep()
    assert_nothing_is_left(raw)


def test_suspects_and_delayed_images_of_a_deleted_job_keep_nobody_waiting(
    raw: Any, ledger: Ledger, take: Take
) -> None:
    ledger.submit(a_job("job-gone", 3))
    assert ledger.release(taken(take), 100.0)
    die(ledger, raw, taken(take, "dead"))
    delete(raw)
    due(raw)
    ledger.submit(a_job("job-next", 2))
    assert [taken(take).job_id for _ in range(2)] == ["job-next"] * 2
    assert take() is None
    assert_nothing_is_left(raw)
    assert raw.keys(f"{FARM}:model:delayed:*") == []


def test_a_deleted_job_that_does_not_wait_is_found_by_the_janitor(
    raw: Any, ledger: Ledger, take: Take
) -> None:
    ledger.submit(a_job("job-gone", 3))
    taken(take)
    ledger.pause("job-gone", "default")
    delete(raw)
    assert ledger.take_back(MODEL, "janitor") == Sweep()
    assert_nothing_is_left(raw)


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("key", [f"model:leases:{MODEL}", f"model:claims:{MODEL}"])
def test_an_image_whose_claim_is_gone_is_given_out_again(
    raw: Any, ledger: Ledger, take: Take, key: str, *, cancelled: bool
) -> None:
    ledger.submit(a_job("job-here", 2))
    claim = taken(take, "gone")
    if cancelled:
        ledger.cancel("job-here", "default")
    assert raw.delete(f"{FARM}:{key}")
    assert not ledger.finish(claim)
    ledger.take_back(MODEL, "janitor")
    status = ledger.status("job-here", "default")
    assert (status.running, status.finished is not None) == (0, cancelled)
    given_out = [taken(take).index for _ in range(0 if cancelled else 2)]
    assert given_out == ([] if cancelled else [0, 1])
    assert take() is None
    assert not raw.exists(f"{FARM}:worker:gone:holding")


@pytest.mark.parametrize("key", [f"model:tenants:{MODEL}", f"model:jobs:0:default:{MODEL}"])
def test_what_is_listed_no_more_is_listed_again(raw: Any, ledger: Ledger, take: Take, key: str) -> None:
    ledger.submit(a_job("job-here", 3))
    taken(take)
    assert raw.delete(f"{FARM}:{key}")
    assert take() is None
    assert ledger.take_back(MODEL, "janitor") == Sweep()
    assert [taken(take).index for _ in range(2)] == [1, 2]


def test_a_key_that_has_made_another_job_since_is_left_to_that(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job("job-gone", idempotency_key="its key"))
    delete(raw)
    assert ledger.submit(a_job("job-next", idempotency_key="its key")) == "job-next"
    assert taken(take).job_id == "job-next"
    assert ledger.submit(a_job("job-more", idempotency_key="its key")) == "job-next"


def test_a_deleted_job_is_one_that_never_was(raw: Any, ledger: Ledger) -> None:
    ledger.submit(a_job("job-gone", idempotency_key="once"))
    delete(raw)
    for ask in (
        ledger.status,
        ledger.job,
        ledger.images,
        ledger.cancel,
        ledger.retry,
        ledger.pause,
        ledger.events,
    ):
        with pytest.raises(NotFound):
            ask("job-gone", "default")
    assert ledger.jobs("default") == []
    assert ledger.submit(a_job("job-next", idempotency_key="once")) == "job-next"


@pytest.mark.parametrize(
    "field", ["next", "done", "failed", "running", "priority", "keep", "created", "data"]
)
def test_a_field_that_is_gone_stops_nobody(raw: Any, ledger: Ledger, take: Take, field: str) -> None:
    ledger.submit(a_job("job-hurt", 2))
    first = taken(take)
    raw.hdel(f"{FARM}:job:job-hurt", field)
    ledger.submit(a_job("job-next", 2, tenant="other"))
    claims = [first, *(claim for _ in range(6) if (claim := take()) is not None)]
    assert {claim.job_id for claim in claims} == {"job-hurt", "job-next"}
    for claim in claims:
        ledger.finish(claim)
    assert ledger.status("job-hurt", "default").n == 2
    assert [image.state for image in ledger.images("job-next", "other")] == [ImageState.DONE] * 2


def test_a_farm_goes_on_after_redis_forgot_everything(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job("job-gone", 5, tenant="t"))
    claims = [taken(take) for _ in range(3)]
    raw.flushall()
    assert not ledger.finish(claims[0])
    assert not ledger.release(claims[1], 1.0, "no memory")
    assert ledger.renew(claims) == [Lost(claim=claim, cancelled=False) for claim in claims]
    assert ledger.take_back(MODEL, "janitor") == Sweep()
    assert ledger.jobs("t") == []
    assert ledger.workers() == []
    assert raw.keys("*job-gone*") == []
    ledger.submit(a_job("job-next", 2, tenant="t"))
    for _ in range(2):
        assert ledger.finish(taken(take))
    assert ledger.status("job-next", "t").finished is not None
    lasting = {key.decode() for key in raw.keys("*") if raw.pttl(key) < 0}
    assert lasting <= {f"{FARM}:{name}" for name in SHARED} | {
        f"{FARM}:model:tick:{MODEL}",
        f"{FARM}:tenant:t",
        f"{FARM}:submitted:t",
    }
