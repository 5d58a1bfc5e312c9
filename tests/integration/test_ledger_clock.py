"""A Redis whose clock was set back by hours: what was to end then, ends as if it had begun now."""

from typing import Any

from img2img_shared.ledger import FarmRedis, Ledger
from img2img_shared.ledger.tables import Election
from img2img_shared.records import WorkerInfo
from tests.integration.ledger_helpers import FARM, MODEL, Take, a_job, run_out, taken

#: ms since 1970 that are far ahead, and seconds that a key has left then
AHEAD = 10**14
HOURS = 6 * 3600


def test_images_that_wait_for_their_next_try_are_given_out(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=2))
    claims = [taken(take, "w") for _ in range(2)]
    ledger.release(claims[0], 100.0)
    ledger.release(claims[1], 100.0, "no memory")
    for member in raw.zrange(f"{FARM}:model:delayed:{MODEL}", 0, -1):
        raw.zadd(f"{FARM}:model:delayed:{MODEL}", {member: AHEAD})
    raw.hset(f"{FARM}:job:job-0000:troubles", 1, f"1 {AHEAD} w")
    assert {taken(take, "w").index for _ in range(2)} == {0, 1}


def test_a_dead_worker_is_not_counted_on(raw: Any, ledger: Ledger, take: Take) -> None:
    gone = WorkerInfo(id="gone", model=MODEL, device="cpu", slots=1)
    here = WorkerInfo(id="here", model="another", device="cpu", slots=1, others={MODEL: ""})
    ledger.beat(gone)
    ledger.submit(a_job(n=1))
    claim = taken(take, "gone")
    for name in (f"model:loaded:{MODEL}", f"model:workers:{MODEL}"):
        raw.zadd(f"{FARM}:{name}", {"gone": AHEAD})
    raw.zadd(f"{FARM}:workers", {"gone": AHEAD})
    raw.zadd(f"{FARM}:served", {"a model of none": AHEAD})
    for name in ("board", "worker:gone"):
        raw.expire(f"{FARM}:{name}", HOURS)
    ledger.beat(here)
    assert [worker.info.id for worker in ledger.workers()] == ["here"]
    assert ledger.served() == sorted([MODEL, "another"])
    run_out(raw, claim)
    ledger.take_back(MODEL, "janitor")
    assert raw.ttl(f"{FARM}:worker:gone") <= ledger.lease / 2


def test_a_clock_that_went_back_by_a_second_loses_no_worker(raw: Any, ledger: Ledger) -> None:
    ledger.beat(WorkerInfo(id="there", model=MODEL, device="cpu", slots=1))
    raw.zincrby(f"{FARM}:workers", 1000, "there")
    ledger.beat(WorkerInfo(id="here", model=MODEL, device="cpu", slots=1))
    assert {worker.info.id for worker in ledger.workers()} == {"here", "there"}


def test_who_decides_on_models_sees_how_it_is_now(raw: Any, ledger: Ledger) -> None:
    ledger.placement()
    raw.expire(f"{FARM}:board", HOURS)
    ledger.submit(a_job(n=1))
    assert ledger.placement().demands[MODEL].waiting


def test_an_office_whose_holder_died_is_vacant_after_its_term(
    raw: Any, ledger: Ledger, farm_redis: FarmRedis
) -> None:
    first, second = (Election(farm_redis, "office", name, 5) for name in ("first", "second"))
    assert first.is_won()
    for name in ("gateway:office", f"model:janitor:{MODEL}"):
        raw.expire(f"{FARM}:{name}", HOURS)
    assert not second.is_won()
    assert ledger.take_back(MODEL, "another") is None
    for name in ("gateway:office", f"model:janitor:{MODEL}"):
        assert raw.ttl(f"{FARM}:{name}") <= 5
