"""What is acknowledged is rendered, and so is what may have been: Redis is frozen while jobs are written."""

import base64
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from img2img_producer import Farm
from img2img_shared.errors import Conflict, Refused, Unavailable
from img2img_shared.farm.input_janitor import InputJanitor
from img2img_shared.farm.intake import AGE
from img2img_shared.farm.service import FarmService
from img2img_shared.farm.submission import Submission, Upload
from img2img_shared.job import JobState, inputs_folder
from img2img_shared.ledger import connect
from img2img_shared.ledger.submissions import Submissions
from img2img_shared.params import Params
from img2img_shared.records import WorkerInfo
from img2img_shared.settings import Settings
from tests.eventually import eventually
from tests.integration.gateway import FakeWorker, Gateway, picture
from tests.servers import RedisServer
from tests.submits import after_pages

SUBMISSIONS = "{img2img}:submissions"


@pytest.fixture
def frozen(mortal_redis: RedisServer) -> Iterator[RedisServer]:
    """A Redis that a test freezes, for which nobody waits long; it is thawed at the end."""
    mortal_redis.url += "?socket_timeout=3"
    yield mortal_redis
    mortal_redis.thaw()


def test_what_was_written_without_an_answer_is_rendered_once_and_given_to_who_asks_again(
    frozen: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("img2img_producer.client.SUBMIT", 0.0)
    headers = {"Idempotency-Key": "over HTTP"}
    store = tmp_path / "store"

    def post(gateway: Gateway) -> Any:
        files = [("image", (f"{number}.png", picture(number))) for number in range(3)]
        return gateway.http.post("/v1/jobs/upload", data={"model": "m"}, files=files, headers=headers)

    def submit(farm: Farm, key: str | None = "from Python") -> str:
        return farm.submit([picture(7)], model="m", idempotency_key=key)

    with (
        Gateway(frozen.url, store) as gateway,
        Farm(frozen.url, store) as farm,
        ThreadPoolExecutor() as pool,
    ):
        farm.cancel(submit(farm, key=None))  # from now on Redis knows the script
        with monkeypatch.context() as patches:
            after_pages(patches, threading.Barrier(2, action=frozen.freeze).wait)
            answers = pool.submit(post, gateway), pool.submit(submit, farm)
            assert answers[0].result().status_code == 503
            assert "was written is not known" in answers[0].result().json()["detail"]
            with pytest.raises(Unavailable, match=r"does not answer: .*; whether job .* was written is not"):
                answers[1].result()
        frozen.thaw()
        again = post(gateway)
        assert again.status_code == 200
        jobs = {again.json()["id"], submit(farm)}
        assert {status.id for status in farm.jobs() if status.state is JobState.PENDING} == jobs
        worker = FakeWorker(frozen.url, store)
        assert worker.work() == 4
        assert {farm.status(job).state for job in jobs} == {JobState.DONE}
        worker.client.close()


def test_a_synchronous_render_that_got_no_answer_is_not_rendered_for_nobody(
    frozen: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    image = base64.b64encode(picture()).decode()
    body = {"init_images": [image], "width": 64, "height": 64, "steps": 1}
    with Gateway(frozen.url, store) as gateway, Farm(frozen.url, store) as farm:
        worker = FakeWorker(frozen.url, store)
        first = farm.submit([picture()], model="m")  # from now on Redis knows the script
        with monkeypatch.context() as patches:
            after_pages(patches, frozen.freeze)
            assert gateway.http.post("/sdapi/v1/img2img", json=body).status_code == 503
        frozen.thaw()
        (job,) = eventually("it is there", lambda: [each for each in farm.jobs() if each.id != first])
        eventually("it is cancelled", lambda: farm.status(job.id).state is JobState.CANCELLED)
        assert worker.work() == 1
        worker.client.close()


def test_what_was_not_written_is_submitted_by_the_repeat(
    mortal_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("img2img_producer.client.SUBMIT", 0.0)
    store = tmp_path / "store"
    with Farm(mortal_redis.url, store) as farm:
        with monkeypatch.context() as patches:
            after_pages(patches, mortal_redis.kill)
            with pytest.raises(Unavailable):
                farm.submit([picture()], model="m", idempotency_key="once")
        assert len(list(store.glob("jobs/*/inputs/*"))) == 1
        mortal_redis.start()
        job = farm.submit([picture()], model="m", idempotency_key="once")
        assert [status.id for status in farm.jobs()] == [job]
        worker = FakeWorker(mortal_redis.url, store)
        assert worker.work() == 1
        worker.client.close()


@pytest.fixture
def service(redis_url: str, tmp_path: Path) -> Iterator[FarmService]:
    with FarmService(Settings(redis_url=redis_url, store_url=str(tmp_path / "store"))) as service:
        yield service


def begun(service: FarmService, **fields: Any) -> Submission:
    """A submission with its one input in the store."""
    submission = service.begin(**{"tenant": "default", "model": "m", "params": Params(), **fields})
    submission.add(Upload(pictures={"image": picture()}))
    submission._take()
    submission._put_page()
    return submission


def pages(service: FarmService, job_id: str) -> list[str]:
    return list(service.store.list(inputs_folder(job_id)))


def age(redis: Redis, job_id: str) -> None:
    """Let a submission have begun long ago."""
    assert redis.zadd(SUBMISSIONS, {job_id: 1}, xx=True, ch=True) == 1


def janitor(service: FarmService) -> InputJanitor:
    return InputJanitor(Submissions(service.redis), service.store)


def test_the_janitor_removes_what_was_begun_long_ago_and_never_submitted(
    service: FarmService, redis: Redis
) -> None:
    submission = begun(service)
    job = submission.job.id
    assert janitor(service).round() == 0
    assert len(pages(service, job)) == 1
    age(redis, job)
    assert janitor(service).round() == 1
    assert pages(service, job) == []
    assert janitor(service).round() == 0
    with pytest.raises(Refused, match="its inputs are gone"):
        submission.commit()
    assert service.ledger.jobs("default") == []


def test_the_janitor_leaves_alone_what_the_ledger_has_and_what_it_was_not_told_of(
    service: FarmService, redis: Redis
) -> None:
    written, running, cancelled, other = (begun(service) for _ in range(4))
    for submission in (written, running, cancelled, other):
        age(redis, submission.job.id)
    for submission in (written, running, cancelled):
        submission.commit()
    assert service.ledger.claim("m", "w", "nonce", idle=True) is not None
    service.ledger.cancel(cancelled.job.id, "default")
    redis.zrem(SUBMISSIONS, other.job.id)  # as if it were another farm's, or noted in a ledger that was lost
    redis.zadd(SUBMISSIONS, {written.job.id: 1})  # as if a copy of the ledger had been restored
    assert janitor(service).round() == 0
    assert all(pages(service, each.job.id) for each in (written, running, cancelled, other))


def test_a_gateway_removes_what_was_never_submitted(
    service: FarmService, redis: Redis, redis_url: str
) -> None:
    job = begun(service).job.id
    age(redis, job)
    with Gateway(redis_url, service.store_url):
        eventually("its inputs are removed", lambda: not pages(service, job))


def test_a_janitor_that_dies_leaves_its_work_to_the_next(
    service: FarmService, redis: Redis, redis_url: str
) -> None:
    job = begun(service).job.id
    age(redis, job)
    with connect(redis_url) as farm:
        assert Submissions(farm).abandoned(AGE, turn=3600) == [job]
        assert Submissions(farm).abandoned(AGE, turn=3600) == []
    age(redis, job)
    assert janitor(service).round() == 1
    assert pages(service, job) == []


def test_what_was_refused_or_came_to_nothing_leaves_nothing_behind(
    service: FarmService, redis: Redis
) -> None:
    submission = begun(service)
    submission.abandon()
    assert pages(service, submission.job.id) == []
    assert redis.zcard(SUBMISSIONS) == 0
    first = begun(service, idempotency_key="once").commit()
    second = begun(service, idempotency_key="once")
    assert second.commit().id == first.id
    assert pages(service, second.job.id) == []
    assert redis.zcard(SUBMISSIONS) == 0


def test_tickets_that_cannot_be_published_fail_no_submit(mortal_redis: RedisServer, tmp_path: Path) -> None:
    with connect(mortal_redis.url) as client, Farm(mortal_redis.url, tmp_path) as farm:
        farm._service.ledger.beat(WorkerInfo(id="w", model="m", device="none", slots=8))
        client.call("ACL", "SETUSER", "default", "-lpush")
        jobs = {farm.submit([picture()], model="m") for _ in range(4)}
        assert {status.id for status in farm.jobs()} == jobs
        assert farm._service.ledger.tickets("m") == 0
        client.call("ACL", "SETUSER", "default", "+lpush")
        farm.submit([picture()], model="m")
        assert farm._service.ledger.tickets("m") == 5


REQUEST: dict[str, Any] = {"model": "m", "prompt": "a harbour", "steps": 12}


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"steps": 13}, ["steps"]),
        ({"model": "other", "priority": 3}, ["model", "priority"]),
        ({"seed": 7}, ["seed"]),
        ({"inputs": [picture(1)]}, ["inputs"]),
        ({"inputs": [picture(), picture()]}, ["inputs"]),
        ({"inputs": [{"image": picture(), "prompt": "rain"}]}, ["inputs"]),
        ({"mask": picture(2)}, ["mask"]),
        ({"prompt": "a harbour " * 50}, ["prompt"]),
    ],
)
def test_an_idempotency_key_stands_for_one_request(
    redis_url: str, tmp_path: Path, change: dict[str, Any], differs: list[str]
) -> None:
    first = {"inputs": [picture()], "idempotency_key": "order", **REQUEST}
    with Farm(redis_url, tmp_path) as farm:
        job = farm.submit(**first)
        assert farm.submit(**first) == job
        with pytest.raises(Conflict, match=f"differs in: {', '.join(differs)}$") as raised:
            farm.submit(**{**first, **change})
        assert raised.value.differs == differs
        assert farm.submit(**first) == job
        assert len(farm.jobs()) == 1
        with Farm(redis_url, tmp_path, tenant="other") as other:
            assert other.submit(**{**first, **change}) != job  # theirs to use


def test_a_key_that_named_no_model_means_the_first_jobs_whatever_is_served_by_now(
    redis_url: str, tmp_path: Path
) -> None:
    with Farm(redis_url, tmp_path) as farm:
        job = farm.submit([picture()], idempotency_key="order")
        for model in ("one", "two"):
            farm._service.ledger.beat(WorkerInfo(id=model, model=model, device="none", slots=1))
        with pytest.raises(Refused, match="give one that is served: one, two"):
            farm.submit([picture()])
        assert farm.submit([picture()], idempotency_key="order") == job


def test_another_request_with_the_same_key_is_a_409_over_http(gateway: Gateway) -> None:
    headers = {"Idempotency-Key": "order"}

    def post(**fields: Any) -> Any:
        files = [("image", ("a.png", picture()))]
        return gateway.http.post(
            "/v1/jobs/upload", data={"model": "m", **fields}, files=files, headers=headers
        )

    first = post(steps=5)
    assert (first.status_code, post(steps=5).status_code) == (201, 200)
    conflict = post(steps=6)
    assert conflict.status_code == 409
    assert conflict.json()["field"] == "idempotency_key"
    assert conflict.json()["allowed"].endswith("differs in: steps")
    assert [job["id"] for job in gateway.http.get("/v1/jobs").json()["jobs"]] == [first.json()["id"]]
