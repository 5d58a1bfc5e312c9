"""Keys that somebody deleted, and a Redis that forgot all: no model stops, and nothing is left behind."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from img2img_shared.errors import NotFound, Unavailable
from img2img_shared.job import ImageState
from img2img_shared.ledger import Ledger
from img2img_shared.records import Claim, ExpiredLeases, Lost, WorkerInfo
from tests.integration.ledger_helpers import FARM, MODEL, Take, a_job, die, due, run_out, taken, tick

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
    assert ledger.take_back(MODEL, "janitor") == ExpiredLeases()
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
    assert ledger.take_back(MODEL, "janitor") == ExpiredLeases()
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
    assert ledger.take_back(MODEL, "janitor") == ExpiredLeases()
    assert [taken(take).index for _ in range(2)] == [1, 2]


def a_busy_farm(raw: Any, ledger: Ledger, take: Take) -> list[Claim]:
    """Two tenants' jobs with images in each state; what runs, and one of it again."""
    raw.flushall()
    tick(ledger, raw)
    ledger.beat(WorkerInfo(id="w", model=MODEL, device="cpu", slots=1))
    ledger.submit(a_job("job-done", 1))
    assert ledger.finish(taken(take))
    ledger.submit(a_job("job-here", 9, idempotency_key="its key"))
    ledger.submit(a_job("job-next", 5, tenant="other"))
    claims = [claim for claim in (taken(take) for _ in range(8)) if claim.job_id == "job-here"]
    ledger.fail(claims.pop(), "no picture")
    ledger.release(claims.pop())
    ledger.release(claims.pop(), 100.0)
    return claims


def all_but_terms(raw: Any) -> dict[bytes, bytes]:
    """What lies in Redis, but for what ends by itself within seconds."""
    return {key: raw.dump(key) for key in raw.keys("*") if b":janitor:" not in key}


CHANGES: dict[str, Callable[[Ledger, Claim], object]] = {
    **ENDS,
    "submit": lambda ledger, _: ledger.submit(a_job("job-more", 2)),
    "claim": lambda ledger, _: ledger.claim(MODEL, "w", "a nonce", idle=True),
    "pass on": lambda ledger, claim: ledger.pass_on(claim, ["w2"]),
    "doubt": lambda ledger, claim: ledger.doubt(claim, "no picture"),
    "cancel": lambda ledger, _: ledger.cancel("job-here", "default"),
    "retry": lambda ledger, _: ledger.retry("job-here", "default"),
    "pause": lambda ledger, _: ledger.pause("job-here", "default"),
    "priority": lambda ledger, _: ledger.set_priority("job-here", "default", 5),
    "remove": lambda ledger, _: ledger.remove("job-done", "default"),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_shared_key_of_another_type_is_named_and_nothing_is_changed(
    raw: Any, ledger: Ledger, take: Take, how: str
) -> None:
    a_busy_farm(raw, ledger, take)
    shared = [key for key in raw.keys("*") if not str(key, "utf-8").startswith(f"{FARM}:job:")]
    named = 0
    for key in shared:
        claim = a_busy_farm(raw, ledger, take)[0]
        kind = raw.type(key)
        raw.delete(key)
        if kind == b"string":
            raw.sadd(key, "another's")
        else:
            raw.set(key, "another's")
        before = all_but_terms(raw)
        with suppress(Unavailable):
            CHANGES[how](ledger, claim)
            continue  # it does not need that key
        with pytest.raises(Unavailable, match=re.escape(str(key, "utf-8"))):
            CHANGES[how](ledger, claim)
        assert all_but_terms(raw) == before
        named += 1
    assert named > 5


@pytest.mark.parametrize("part", ["back", "running", "failed", "events", "attempts", "done"])
def test_a_part_of_a_job_that_is_of_another_type_keeps_no_image_from_its_end(
    raw: Any, ledger: Ledger, take: Take, part: str
) -> None:
    claims = a_busy_farm(raw, ledger, take)
    key = f"{FARM}:job:job-here:{part}"
    raw.delete(key)
    raw.hset(key, "another's", 1) if part in ("back", "events", "done") else raw.set(key, "another's")
    due(raw)
    for _ in range(9):  # some of the jobs are looked after in each round
        ledger.take_back(MODEL, "janitor")
    while (claim := take()) is not None:
        claims.append(claim)
    for claim in claims:
        ledger.finish(claim)
    status = ledger.status("job-here", "default")
    assert (status.done + status.failed, status.running, status.finished is not None) == (9, 0, True)
    assert raw.exists(f"{FARM}:aside:{key}")


@pytest.mark.parametrize("part", ["back", "suspects"])
def test_images_whose_list_is_gone_wait_again(raw: Any, ledger: Ledger, take: Take, part: str) -> None:
    ledger.submit(a_job("job-here", 3))
    claims = [taken(take) for _ in range(3)]
    assert ledger.finish(claims[0])
    if part == "back":
        ledger.release(claims[1])
    else:
        die(ledger, raw, claims[1])
    ledger.release(claims[2], 100.0)
    assert raw.delete(f"{FARM}:job:job-here:{part}")
    ledger.take_back(MODEL, "janitor")
    claim = taken(take, idle=True)
    assert (claim.index, take()) == (1, None)


def test_a_worker_keeps_its_other_images_when_one_of_a_damaged_job_is_lost(
    raw: Any, ledger: Ledger, take: Take
) -> None:
    ledger.submit(a_job("job-gone"))
    ledger.submit(a_job("job-here", tenant="other"))
    claims = [taken(take) for _ in range(2)]
    raw.set(f"{FARM}:job:job-gone", "another's")
    assert [lost.claim.job_id for lost in ledger.renew(claims)] == ["job-gone"]


def test_what_cannot_be_read_is_named(raw: Any, ledger: Ledger, take: Take) -> None:
    a_busy_farm(raw, ledger, take)
    raw.set(f"{FARM}:worker:w", b"another's \xff")
    raw.set(f"{FARM}:board", b"another's \xff")
    raw.hset(f"{FARM}:under_way", "default", "another's")
    asked = {f"{FARM}:worker:w": ledger.workers, f"{FARM}:board": ledger.placement}
    for key, ask in {**asked, f"{FARM}:under_way": ledger.unfinished}.items():
        with pytest.raises(Unavailable, match=re.escape(f"its key {key} holds")):
            ask()
    for name in ("waiting", f"model:waits:{MODEL}"):
        raw.hset(f"{FARM}:{name}", MODEL if name == "waiting" else "0 default", "another's")
    raw.zadd(f"{FARM}:model:tenants:{MODEL}", {"another's": -1})
    raw.hset(f"{FARM}:model:tick:{MODEL}", "at", "another's")
    assert taken(take)
    assert ledger.demand()
    assert ledger.take_back(MODEL, "janitor") == ExpiredLeases()


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
    assert ledger.take_back(MODEL, "janitor") == ExpiredLeases()
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


@pytest.mark.parametrize("n", ["many", "-5", "0", "2.5", "1e300", "nan", None])
@pytest.mark.parametrize("touch", ["claim", "status", "list"])
def test_a_job_that_cannot_be_read_is_set_aside_and_told_to_the_audit(
    raw: Any, ledger: Ledger, take: Take, n: str | None, touch: str
) -> None:
    ledger.submit(a_job("job-hurt", 3))
    ledger.submit(a_job("job-here", 1))
    key = f"{FARM}:job:job-hurt"
    raw.hset(key, "n", n) if n is not None else raw.hdel(key, "n")
    if touch == "claim":
        assert (taken(take).job_id, take()) == ("job-here", None)
    elif touch == "list":
        assert [job.id for job in ledger.jobs("default")] == ["job-here"]
    else:
        with pytest.raises(NotFound):
            ledger.status("job-hurt", "default")
    assert raw.hgetall(f"{FARM}:aside:{key}")
    assert [line[b"subject"] for _, line in raw.xrange(f"{FARM}:audit")] == [b"job-hurt"]


def test_numbers_and_texts_of_a_job_that_are_none_stop_nobody(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job("job-hurt", 2))
    ledger.submit(a_job("job-here", 2))
    key = f"{FARM}:job:job-hurt"
    for field in raw.hkeys(key):
        if field not in (b"n", b"tenant", b"model"):
            raw.hset(key, field, b"\xffnone")
    claims = [taken(take) for _ in range(4)]
    assert sorted(claim.job_id for claim in claims) == ["job-here"] * 2 + ["job-hurt"] * 2
    assert all(ledger.finish(claim) for claim in claims)
    assert {job.id: job.done for job in ledger.jobs("default")} == {"job-here": 2, "job-hurt": 2}
    assert ledger.status("job-hurt", "default").finished is not None
