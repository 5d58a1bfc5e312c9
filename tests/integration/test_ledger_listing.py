"""What a call about many jobs or workers costs: as much as one about few."""

from typing import Any

import pytest

from img2img_shared.errors import Refused
from img2img_shared.job import Job
from img2img_shared.ledger import Ledger
from img2img_shared.records import WorkerInfo
from img2img_shared.wire import encode_job
from tests.integration.ledger_helpers import FARM, MODEL, Take, a_job, taken


def ids(ledger: Ledger, limit: int) -> list[list[str]]:
    """Those of each page."""
    pages = []
    after: str | None = ""
    while after is not None:
        page = ledger.page_of_jobs("default", after, limit)
        pages.append([status.id for status in page.jobs])
        after = page.next
    return pages


def test_jobs_come_in_pages_newest_first(raw: Any, ledger: Ledger) -> None:
    for number in range(7):
        ledger.submit(a_job(f"job-000{number}"))
        raw.zadd(f"{FARM}:tenant:default", {f"job-000{number}": number // 2})  # some at the same moment
    assert [len(page) for page in ids(ledger, 3)] == [3, 3, 1]
    newest_first = [f"job-000{number}" for number in range(6, -1, -1)]
    assert [job for page in ids(ledger, 3) for job in page] == newest_first
    assert ids(ledger, 100) == [newest_first]


def test_a_page_goes_on_where_the_last_one_ended_whatever_comes_and_goes_meanwhile(
    raw: Any, ledger: Ledger
) -> None:
    for number in range(6):
        ledger.submit(a_job(f"job-000{number}"))
        raw.zadd(f"{FARM}:tenant:default", {f"job-000{number}": number})
    page = ledger.page_of_jobs("default", limit=2)
    assert [status.id for status in page.jobs] == ["job-0005", "job-0004"]
    ledger.submit(a_job("job-newer"))
    raw.delete(f"{FARM}:job:job-0004", f"{FARM}:job:job-0003")
    raw.zrem(f"{FARM}:tenant:default", "job-0004")
    assert page.next is not None
    page = ledger.page_of_jobs("default", page.next, limit=2)
    assert [status.id for status in page.jobs] == ["job-0002", "job-0001"]
    assert page.next is not None
    assert [status.id for status in ledger.page_of_jobs("default", page.next, 2).jobs] == ["job-0000"]


def test_a_list_of_forgotten_jobs_ends_at_the_first_that_are_not(raw: Any, ledger: Ledger) -> None:
    for number in range(300):
        raw.zadd(f"{FARM}:tenant:default", {f"job-{number:04}": number + 10})
    ledger.submit(a_job("job-here"))
    raw.zadd(f"{FARM}:tenant:default", {"job-here": 1})
    assert [status.id for status in ledger.jobs("default", 5)] == ["job-here"]
    assert raw.zcard(f"{FARM}:tenant:default") == 1


@pytest.mark.parametrize("after", ["yesterday", "1", "1 x", "1 job-0000\n", "-1 job-0000"])
def test_what_is_no_place_in_the_list_is_refused(ledger: Ledger, after: str) -> None:
    with pytest.raises(Refused, match="after is "):
        ledger.page_of_jobs("default", after)
    with pytest.raises(Refused, match="limit is "):
        ledger.page_of_jobs("default", limit=0)


def commands(raw: Any, ask: Any) -> int:
    """Redis' own commands in one call, those of its scripts included."""
    raw.config_resetstat()
    ask()
    stats = raw.info("commandstats")
    return sum(
        stat["calls"]
        for name, stat in stats.items()
        if name not in ("cmdstat_info", "cmdstat_config|resetstat")
    )


def test_no_call_costs_more_on_a_farm_of_many_jobs_and_workers(raw: Any, ledger: Ledger, take: Take) -> None:
    def costs() -> dict[str, int]:
        return {
            "status": commands(raw, lambda: ledger.status("job-here", "default")),
            "page": commands(raw, lambda: ledger.page_of_jobs("default", limit=10)),
            "waiting": commands(raw, lambda: ledger.waiting(MODEL, 1000)),
            "tickets": commands(raw, lambda: ledger.missing_tickets(MODEL, 1000)),
            "served": commands(raw, ledger.served),
            "beat": commands(raw, lambda: ledger.beat(info)),
            "cancels": commands(raw, lambda: ledger.cancels("0")),
            "claim and finish": commands(raw, lambda: ledger.finish(taken(take))),
            # the janitor looks after two jobs drawn by lot, of which one that has begun costs a command more
            "round": min(commands(raw, lambda: ledger.take_back(MODEL, "janitor")) for _ in range(10)),
        }

    info = WorkerInfo(id="w", model=MODEL, device="cpu", slots=1)
    ledger.beat(info)
    ledger.submit(a_job("job-here", 1000, priority=1))
    for number in range(20):
        ledger.submit(a_job(f"job-{number:05}", 1))
    costs()  # so that the scripts are loaded before calls are counted
    few = costs()
    for number in range(20, 2000):
        ledger.submit(a_job(f"job-{number:05}", 1))
    for number in range(500):
        ledger.beat(WorkerInfo(id=f"w{number}", model=MODEL, device="cpu", slots=1))
    assert costs() == few
    assert len(ledger.workers()) == 501


def test_jobs_of_an_older_version_are_moved_to_where_they_are_now(
    raw: Any, ledger: Ledger, take: Take
) -> None:
    for number in range(120):
        job = f"old-{number:05}"
        data = encode_job(Job(**{**a_job(job, 2).model_dump(), "tenant": f"t{number % 2}"}))
        fields = {
            "tenant": f"t{number % 2}",
            "model": MODEL,
            "n": 2,
            "priority": 0,
            "data": data,
            "keep": 1000,
        }
        counters = {"created": 1, "next": 0, "done": 0, "failed": 0, "running": 0}
        raw.hset(f"{FARM}:job:{job}", mapping={**fields, **counters})
        raw.zadd(f"{FARM}:model:schedule:{MODEL}", {job: number})
    raw.zadd(f"{FARM}:model:schedule:{MODEL}", {"old-gone0": 5})
    raw.hset(f"{FARM}:model:floor:{MODEL}", "0", "17")
    claims = []
    while (claim := take()) is not None:
        claims.append(claim)
    assert len({(claim.job_id, claim.index) for claim in claims}) == len(claims) == 240
    assert [claim.tenant for claim in claims[:4]] in (["t0", "t1"] * 2, ["t1", "t0"] * 2)
    ledger.take_back(MODEL, "janitor")
    assert not raw.exists(f"{FARM}:model:schedule:{MODEL}", f"{FARM}:model:floor:{MODEL}")


def test_claims_of_an_older_version_end_where_they_were_counted(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=2))
    claim = taken(take, "old")
    raw.delete(f"{FARM}:worker:old:holding")  # which counted by model
    raw.hset(f"{FARM}:model:holding:{MODEL}", "old", 2)
    raw.hset(f"{FARM}:model:alone:{MODEL}", "old", claim.nonce)
    assert ledger.finish(claim)
    assert raw.hgetall(f"{FARM}:model:holding:{MODEL}") == {b"old": b"1"}
    assert not raw.exists(f"{FARM}:model:alone:{MODEL}", f"{FARM}:worker:old:holding")
