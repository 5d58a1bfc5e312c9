"""How long things stay in the store, what removes them, and what never does."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from typer.testing import CliRunner

from img2img_producer import Farm
from img2img_producer.cli import app as cli
from img2img_shared.errors import NotFound, Refused, StoreError
from img2img_shared.farm import store_janitor
from img2img_shared.farm.intake import AGE
from img2img_shared.farm.service import FarmService
from img2img_shared.farm.storage import TenantStorage
from img2img_shared.farm.store_janitor import Cleaned
from img2img_shared.job import inputs_key, picture_key
from img2img_shared.ledger.tables import Table
from img2img_shared.params import Params
from img2img_shared.records import JobStatus
from img2img_shared.settings import Settings
from img2img_shared.wire import decode_inputs
from tests.integration.gateway import FakeWorker, picture

FARM = "{img2img}"
DAY = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An own one: what lies in it is counted."""
    return tmp_path / "store"


@pytest.fixture
def farm(redis_url: str, store: Path) -> Iterator[Farm]:
    with Farm(redis_url, store) as farm:
        yield farm


@pytest.fixture
def service(farm: Farm) -> FarmService:
    return farm._service


def files(store: Path) -> set[str]:
    """What lies in the store, but for what the farm itself keeps there."""
    found = {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()}
    return found - {"farm-id", "janitor/generation"}


def rendered(farm: Farm, worker: FakeWorker, *pictures: bytes, **fields: Any) -> JobStatus:
    """A job that is done."""
    job = farm.submit(list(pictures), model="m", width=64, height=64, **fields)
    worker.work()
    return farm.status(job)


def let_pass(redis: Any, seconds: float) -> None:
    """What is due in so long is due now."""
    for name in ("due", "removed"):
        for member in redis.zrange(f"{FARM}:{name}", 0, -1):
            redis.zincrby(f"{FARM}:{name}", -1000 * seconds, member)


def let_age(store: Path, seconds: float) -> None:
    """Everything was written so long ago."""
    for path in store.rglob("*"):
        os.utime(path, (time.time() - seconds,) * 2)


def test_a_job_goes_after_its_time_with_its_results_and_then_its_inputs(
    farm: Farm, service: FarmService, fake_worker: FakeWorker, redis: Redis, store: Path
) -> None:
    short = rendered(farm, fake_worker, picture(1), picture(2), keep="30d", idempotency_key="once")
    kept = rendered(farm, fake_worker, picture(2), picture(3))
    assert short.kept_until is not None
    assert short.finished is not None
    assert (short.kept_until - short.finished).days == 30
    assert redis.pttl(f"{FARM}:job:{short.id}") == -1, "Redis does not forget it before the store"
    assert redis.pttl(f"{FARM}:job:{kept.id}") > 0
    let_pass(redis, 29 * DAY)
    service.janitor.round()
    assert farm.status(short.id).done == 2
    let_pass(redis, 2 * DAY)
    service.janitor.round()
    with pytest.raises(NotFound):
        farm.status(short.id)
    assert not [name for name in files(store) if short.id in name]
    assert len([name for name in files(store) if kept.id in name]) == 3
    assert farm.clean().pictures == 0, "its inputs were uploaded just now"
    let_age(store, 8 * DAY)
    assert farm.clean(dry_run=True) == Cleaned(
        jobs=0, pictures=1, bytes=len(picture(1)), orphans=0, held_for=0.0
    )
    assert farm.clean().pictures == 1
    assert len([name for name in files(store) if name.startswith("inputs/")]) == 2
    again = rendered(farm, fake_worker, picture(1), idempotency_key="once")
    assert again.id != short.id


def test_a_store_is_empty_once_all_its_jobs_are_removed(
    farm: Farm, fake_worker: FakeWorker, store: Path
) -> None:
    for number in range(2):
        job = rendered(farm, fake_worker, picture(number), mask=picture(7))
        farm.remove(job.id)
    assert files(store) == {str(each.relative_to(store)) for each in store.glob("inputs/*/*")}
    assert farm.clean(uploads=0).pictures == 3
    assert files(store) == set()
    assert not list(store.glob("jobs/*"))


def test_what_was_removed_while_the_store_was_away_goes_when_it_is_back(
    farm: Farm,
    service: FarmService,
    fake_worker: FakeWorker,
    redis: Redis,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = rendered(farm, fake_worker, picture())

    def away(_: str) -> int:
        raise StoreError("away", transient=True, reason="away")

    with monkeypatch.context() as patches:
        patches.setattr(service.store, "delete_all", away)
        with pytest.raises(StoreError):
            farm.remove(job.id)
        with pytest.raises(StoreError):
            service.janitor.round()
    assert len(list(store.glob("jobs/*/*"))) == 2
    let_pass(redis, store_janitor.TURN)
    service.janitor.round()
    assert not list(store.glob("jobs/*"))


def test_a_result_that_comes_after_its_job_was_removed_goes_too(
    farm: Farm, service: FarmService, fake_worker: FakeWorker, redis: Redis, store: Path
) -> None:
    jobs = [rendered(farm, fake_worker, picture()).id for _ in range(2)]
    for job in jobs:
        farm.remove(job)
    service.janitor.round()
    service.store.put(f"jobs/{jobs[0]}/0.png", b"late")
    let_pass(redis, store_janitor.AGAIN)
    service.janitor.round()
    assert not list(store.glob("jobs/*"))
    assert redis.zcard(f"{FARM}:removed") == 0
    service.store.put(f"jobs/{jobs[1]}/0.png", b"later still")
    farm.clean()
    assert not list(store.glob("jobs/*"))


def test_a_job_that_goes_on_is_kept_and_its_time_begins_anew(
    farm: Farm, service: FarmService, fake_worker: FakeWorker, redis: Redis
) -> None:
    job = farm.submit([picture()], model="m", keep="1d")
    fake_worker.ledger.fail(fake_worker.await_claim(), "no luck")
    assert farm.retry(job) == 1
    let_pass(redis, 2 * DAY)
    service.janitor.round()
    assert farm.status(job).pending == 1
    assert redis.zcard(f"{FARM}:due") == 0
    fake_worker.work()
    assert redis.zcard(f"{FARM}:due") == 1


def test_how_long_a_job_is_kept_can_be_changed_at_any_time(
    farm: Farm, service: FarmService, fake_worker: FakeWorker, redis: Redis
) -> None:
    job = rendered(farm, fake_worker, picture(), keep="1d").id
    farm.set_keep(job, "forever")
    let_pass(redis, 2 * DAY)
    service.janitor.round()
    status = farm.status(job)
    assert (status.keep, status.kept_until) == (None, None)
    assert redis.pttl(f"{FARM}:job:{job}") > 0
    farm.set_keep(job, "12h")
    assert redis.pttl(f"{FARM}:job:{job}") == -1
    let_pass(redis, DAY)
    service.janitor.round()
    with pytest.raises(NotFound):
        farm.status(job)
    for wrong in ("soon", "-1d", "1y", "999999d"):
        with pytest.raises(Refused, match="keep"):
            farm.submit([picture()], model="m", keep=wrong)


def test_the_settings_say_how_long_jobs_are_kept_that_do_not(
    redis_url: str, store: Path, fake_worker: FakeWorker
) -> None:
    with Farm(settings=Settings(redis_url=redis_url, store_url=str(store), keep="2d")) as farm:
        assert rendered(farm, fake_worker, picture()).keep == 2 * DAY
        assert rendered(farm, fake_worker, picture(), keep="forever").keep is None


def test_what_a_waiting_job_names_stays_however_old_it_is(farm: Farm, store: Path) -> None:
    job = farm.submit([picture(1)], model="m", mask=picture(2), keep="0s")
    let_age(store, 1000 * DAY)
    assert farm.clean(uploads=0) == Cleaned(jobs=0, pictures=0, bytes=0, orphans=0, held_for=0.0)
    assert farm.status(job).pending == 1
    assert len(files(store)) == 4


def test_an_upload_that_no_job_named_goes_after_its_time_and_is_refused_then(
    farm: Farm, service: FarmService, store: Path
) -> None:
    key = service.intake.upload("default", picture(), "body")
    reference = f"inputs/{key.rpartition('/')[2]}"
    let_age(store, 6 * DAY)
    assert farm.clean().pictures == 0
    service.intake.upload("default", picture(), "body")
    let_age(store, 6 * DAY)
    service.intake.upload("default", picture(), "body")
    let_age(store / "inputs" / "default", 0)
    assert farm.clean(uploads="1d").pictures == 0, "an upload counts from the last time"
    let_age(store, 8 * DAY)
    assert farm.clean().pictures == 1
    submission = service.begin(tenant="default", model="m", params=Params())
    with pytest.raises(Refused, match="upload the picture first"):
        submission.set_picture("image", reference)
    assert farm.jobs() == []


def test_a_picture_on_its_way_out_is_waited_for_and_then_put_anew(
    farm: Farm, service: FarmService, redis: Redis, store: Path
) -> None:
    key = picture_key("default", service.intake.upload("default", picture(), "body").rpartition("/")[2])
    digest = key.rpartition("/")[2]
    service.retention.set_note("generation", 1)
    assert service.retention.doom("default", [digest], latest="", turn=3600.0, generation=1) == [digest]
    assert not service._submissions.hold("someone", "default", [digest], AGE)
    redis.hset(f"{FARM}:doomed", f"default/{digest}", 0)  # whoever was to remove it has died
    job = farm.submit([picture()], model="m")
    assert service.retention.doom("default", [digest], latest="", turn=60.0, generation=1) is None
    assert service.retention.doom("default", [digest], latest=job, turn=60.0, generation=2) is None
    let_age(store, 8 * DAY)
    assert farm.clean().pictures == 0


def test_what_a_submission_holds_is_not_removed(farm: Farm, service: FarmService, store: Path) -> None:
    service.intake.upload("default", picture(), "body")
    submission = service.begin(tenant="default", model="m", params=Params())
    submission.set_picture("image", f"inputs/{next(store.glob('inputs/*/*')).name}")
    let_age(store, 8 * DAY)
    assert farm.clean().pictures == 0
    submission.abandon()
    assert farm.clean().pictures == 1


def test_jobs_that_come_while_the_janitor_looks_are_looked_at(
    farm: Farm, service: FarmService, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.intake.upload("default", picture(1), "body")
    service.intake.upload("default", picture(2), "body")
    look = service.retention.__class__.latest
    asked: list[str] = []

    def latest(self: Any, tenant: str) -> str:
        found = look(self, tenant)
        if not asked:
            asked.append(farm.submit([picture(1)], model="m"))
        return found

    monkeypatch.setattr(service.retention.__class__, "latest", latest)
    assert farm.clean(uploads=0).pictures == 1
    assert service.store.exists(picture_key("default", digest_of(farm, asked[0])))


def digest_of(farm: Farm, job: str) -> str:
    (item,) = decode_inputs(farm._service.store.get(inputs_key(job, 0)))
    return item.pictures["image"].rpartition("/")[2]


def test_a_page_that_cannot_be_read_may_name_anything(farm: Farm, service: FarmService, store: Path) -> None:
    service.intake.upload("default", picture(), "body")
    service.store.put(inputs_key("anotherjob", 0), b"not a page")
    with pytest.raises(Refused, match="no picture is removed: jobs/anotherjob/inputs/000000"):
        farm.clean(uploads=0)
    assert len(files(store)) == 2


def test_a_ledger_that_was_lost_has_nothing_removed(
    farm: Farm, service: FarmService, fake_worker: FakeWorker, redis: Redis, store: Path
) -> None:
    lost = rendered(farm, fake_worker, picture(1), keep="1d")
    service.intake.upload("default", picture(2), "body")
    farm.clean()
    redis.flushall()
    after = rendered(farm, fake_worker, picture(3), keep="1d")
    let_age(store, 1000 * DAY)
    before = files(store)
    cleaned = farm.clean(uploads=0)
    assert cleaned.pictures == 0
    assert AGE - 3600 < cleaned.held_for <= AGE
    assert files(store) == before
    for _ in range(2):  # it may have ended before the ledger was lost, and gets its time once more
        let_pass(redis, 2 * DAY)
        service.janitor.round()
    with pytest.raises(NotFound):
        farm.status(after.id)
    assert [each.id for each in farm.orphans()] == [lost.id]
    redis.hset(f"{FARM}:janitor", "trusted", 1)  # days later
    assert farm.clean(uploads=0).pictures == 2, "the orphan still names its input"
    assert service.store.exists(f"jobs/{lost.id}/0.png")


def test_a_copy_of_the_ledger_that_is_older_than_the_store_is_not_believed(
    farm: Farm, service: FarmService, fake_worker: FakeWorker, redis: Redis, store: Path
) -> None:
    job = rendered(farm, fake_worker, picture(), keep="1d")
    farm.clean()
    copy = [(key, redis.dump(key) or b"") for key in redis.scan_iter()]
    farm.set_keep(job.id, "forever")
    farm.clean()
    redis.flushall()
    for key, data in copy:
        redis.restore(key, 0, data)
    let_pass(redis, 2 * DAY)
    service.janitor.round()
    assert farm.status(job.id).kept_until is not None, "its time begins with the copy"
    assert service.store.exists(f"jobs/{job.id}/0.png")


def test_orphans_are_listed_and_go_only_after_a_time_that_somebody_has_set(
    farm: Farm, service: FarmService, fake_worker: FakeWorker, redis: Redis, store: Path
) -> None:
    job = rendered(farm, fake_worker, picture()).id
    redis.delete(f"{FARM}:job:{job}")  # forgotten, after `keep_jobs`
    assert farm.clean(uploads=0).orphans == 0
    (orphan,) = farm.orphans()
    assert (orphan.id, orphan.pictures) == (job, 1)
    assert list(service.janitor.listed()) == [job]
    assert farm.clean(orphans="7d").orphans == 0
    Table(service.redis, "orphans").put({job: {"since": 0}})
    assert farm.clean(orphans="7d", dry_run=True).orphans == 1
    assert farm.clean(orphans="7d").orphans == 1
    assert service.janitor.listed() == {}
    assert farm.clean(uploads=0).pictures == 1
    assert files(store) == set()


def test_a_farm_that_has_not_begun_has_nothing_to_be_cleaned(farm: Farm, store: Path) -> None:
    assert farm.clean(uploads=0).held_for == 0.0
    farm._service.janitor.round()
    assert files(store) == set()
    assert not (store / "janitor").exists()
    farm._service.intake.upload("default", picture(), "body")
    assert farm.clean(uploads=0).pictures == 1, "the ledger knows all that is there"


def test_a_job_that_is_being_submitted_is_no_orphan(farm: Farm, service: FarmService) -> None:
    submission = service.begin(tenant="default", model="m", params=Params())
    service.store.put(inputs_key(submission.job.id, 0), b"")
    assert list(farm.orphans()) == []
    assert farm.clean(uploads=None, orphans=0).orphans == 0


def test_one_process_cleans_at_a_time_and_the_next_goes_on_where_it_died(
    farm: Farm, service: FarmService, redis: Redis
) -> None:
    redis.set(f"{FARM}:gateway:janitor", "another")
    with pytest.raises(Refused, match="another process"):
        farm.clean()
    service.janitor.round()
    redis.delete(f"{FARM}:gateway:janitor")  # it is not heard of any more
    farm.clean()
    assert redis.get(f"{FARM}:gateway:janitor") is None


def test_a_finished_job_takes_little_of_redis(farm: Farm, fake_worker: FakeWorker, redis: Any) -> None:
    job = rendered(farm, fake_worker, picture(), prompt="an oil painting")
    parts = [redis.memory_usage(key) for key in redis.scan_iter(f"{FARM}:job:{job.id}*")]
    assert sum(parts) < 3000, "the events alone took 4 kB"
    states = [event.state for event in fake_worker.ledger.events(job.id, "default")]
    assert states == ["pending", "running", "done", "done"]


def test_the_command_line_looks_after_the_store(
    farm: Farm, fake_worker: FakeWorker, redis_url: str, store: Path
) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(cli, ["--redis-url", redis_url, "--store-url", str(store), *words])
        assert done.exit_code == 0, done.output
        return done.stdout

    job = rendered(farm, fake_worker, picture()).id
    assert run("keep", job, "30d").startswith("kept until ")
    assert "kept" in run("status", job)
    assert "default" in run("storage")
    assert json.loads(run("storage", "--json"))[0]["since"] == len(picture())
    assert run("clean", "--dry-run", "--uploads", "0s") == "nothing to remove\n"
    run("rm", job)
    assert run("clean", "--uploads", "0s") == "removed: 1 picture\n"
    lines = [json.loads(line) for line in run("audit", job, "--json").splitlines()]
    assert [line["action"] for line in lines] == ["remove", "keep"]
    assert {line["by"] for line in lines} == {farm.settings.owner}
    assert f"remove {job} of default" in run("audit")


def test_what_tenants_have_in_the_store_is_added_up(
    farm: Farm, service: FarmService, fake_worker: FakeWorker, store: Path
) -> None:
    rendered(farm, fake_worker, picture(1), picture(2))
    service.intake.upload("other", picture(3), "body")
    uploaded = sum(len(picture(number)) for number in (1, 2))
    assert farm.storage() == [
        TenantStorage(tenant="default", since=uploaded),
        TenantStorage(tenant="other", since=len(picture(3))),
    ]
    farm.clean()
    results = sum(path.stat().st_size for path in store.glob("jobs/**/*") if path.is_file())
    assert farm.storage() == [
        TenantStorage(tenant="default", inputs=uploaded, results=results),
        TenantStorage(tenant="other", inputs=len(picture(3))),
    ]
