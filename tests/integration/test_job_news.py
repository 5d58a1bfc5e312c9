"""What happens to all jobs of a tenant: as the ledger knows it, and as the gateway streams it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from img2img_gateway import job_news
from img2img_shared.errors import Unavailable
from img2img_shared.ledger import Ledger
from img2img_shared.ledger.job_changes import CHANGED
from img2img_shared.records import JobChanges
from tests.eventually import eventually
from tests.integration.gateway import FakeWorker, Gateway
from tests.integration.ledger_helpers import FARM, Take, a_job


def changed(ledger: Ledger, after: int, tenant: str = "default") -> JobChanges:
    """What has happened by now: what happens in a millisecond is told once it is over."""
    now = ledger.changes(tenant).until + 1
    while True:
        found = ledger.changes(tenant, after)
        if found.has_more or found.until >= now:
            return found


def ids(changes: JobChanges) -> list[str]:
    return [job.id for job in changes.jobs]


def test_a_job_is_told_once_however_much_happened(ledger: Ledger, take: Take) -> None:
    start = ledger.changes("default").until
    ledger.submit(a_job("job-one1", 3))
    ledger.submit(a_job("job-two2", 1))
    for _ in range(2):
        claim = take()
        assert claim is not None
        ledger.finish(claim)
    ledger.submit(a_job("job-other", 1, tenant="other"))
    first = changed(ledger, start)
    assert sorted(ids(first)) == ["job-one1", "job-two2"]
    assert sum(job.done for job in first.jobs) == 2
    assert ids(changed(ledger, first.until)) == []
    ledger.pause("job-one1", "default")
    assert ids(changed(ledger, first.until)) == ["job-one1"]
    assert ids(changed(ledger, start, "other")) == ["job-other"]


def test_a_removed_job_is_gone(ledger: Ledger) -> None:
    ledger.submit(a_job("job-gone", 1))
    start = changed(ledger, ledger.changes("default").until).until
    ledger.cancel("job-gone", "default")
    ledger.remove("job-gone", "default")
    found = changed(ledger, start)
    assert (found.jobs, found.gone) == ([], ["job-gone"])


def test_many_changes_come_in_shares(ledger: Ledger) -> None:
    start = ledger.changes("default").until
    wanted = {f"job-{number:05}" for number in range(CHANGED + 20)}
    for job in wanted:
        ledger.submit(a_job(job, 1))
    first = changed(ledger, start)
    rest = changed(ledger, first.until)
    assert (first.has_more, rest.has_more) == (True, False)
    assert {*ids(first), *ids(rest)} == wanted
    assert not {*ids(first)} & {*ids(rest)}


def test_what_is_long_ago_is_not_known(ledger: Ledger, raw: Any) -> None:
    now = ledger.changes("default").until
    assert ledger.changes("default", now).is_whole
    assert not ledger.changes("default", now - 2 * 3600 * 1000).is_whole
    assert not ledger.changes("default", now + 3600 * 1000).is_whole
    ledger.submit(a_job("job-one1", 1))
    assert 0 < raw.pttl(f"{FARM}:changed:default") <= 3600 * 1000


def events(stream: httpx.Response) -> Iterator[tuple[str, Any, str]]:
    """(type, data, id) as they come."""
    found: dict[str, str] = {}
    for line in stream.iter_lines():
        name, _, value = line.partition(": ")
        if name:
            found[name] = value
        elif not line and "data" in found:
            yield found["event"], json.loads(found["data"]), found["id"]
            found = {}


def test_an_outage_while_jobs_are_watched_is_told_once(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = 0

    def away(*_: object) -> JobChanges:
        nonlocal rounds
        rounds += 1
        raise Unavailable("Redis does not answer")

    with gateway.http.stream("GET", "/v1/events") as stream:
        told = events(stream)
        assert next(told)[0] == "jobs"
        with monkeypatch.context() as patches:
            patches.setattr(job_news, "PACE", 0.0)
            patches.setattr(Ledger, "changes", away)
            eventually("it has asked again and again", lambda: rounds > 5)
        eventually("it goes on", lambda: "the changes of jobs go on" in caplog.text)
    assert caplog.text.count("Redis does not answer") == 1


def test_a_stream_tells_of_all_jobs(gateway: Gateway, fake_worker: FakeWorker) -> None:
    with gateway.http.stream("GET", "/v1/events") as stream:
        told = events(stream)
        assert next(told)[:2] == ("jobs", {"jobs": [], "gone": []})
        job = gateway.upload("m")
        _, update, _ = next(told)
        assert [each["id"] for each in update["jobs"]] == [job]
        fake_worker.work()
        kind, update, last = next(told)
        while not update["jobs"][0]["done"]:
            kind, update, last = next(told)
        assert (kind, update["jobs"][0]["state"]) == ("jobs", "done")
    gateway.http.delete(f"/v1/jobs/{job}").raise_for_status()
    with gateway.http.stream("GET", "/v1/events", headers={"Last-Event-ID": last}) as stream:
        assert next(update["gone"] for _, update, _ in events(stream) if update["gone"]) == [job]
    with gateway.http.stream("GET", "/v1/events", params={"after": "1"}) as stream:
        assert next(events(stream))[0] == "lost"
