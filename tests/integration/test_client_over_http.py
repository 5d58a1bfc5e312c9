"""The Python client through a real gateway, beside a worker's part that ends images without rendering."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from img2img_gateway.api_keys import ApiKeys
from img2img_producer import AsyncFarm, Farm, Picture
from img2img_producer.backends import gateway_client
from img2img_shared.command_line import Connection
from img2img_shared.errors import Conflict, FarmError, NotFound, Refused, StoreError, Unavailable
from img2img_shared.job import ImageState, JobState
from img2img_shared.settings import Settings
from img2img_shared.store import Store
from tests.integration.gateway import FakeWorker, Gateway, picture
from tests.integration.test_cli import ask, run

SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 2}


@pytest.fixture
def farm(gateway: Gateway) -> Iterator[Farm]:
    """The client, which knows nothing but a URL."""
    with Farm(gateway.url) as farm:
        yield farm


@pytest.fixture
def direct(redis_url: str, store: Path) -> Iterator[Farm]:
    """The client of the same farm by its Redis and store."""
    with Farm(redis_url, store) as direct:
        yield direct


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is asked of gateways from now on: method and path."""
    asked: list[tuple[str, str]] = []
    send = httpx.Client.send

    def noted(client: httpx.Client, request: httpx.Request, **more: object) -> httpx.Response:
        asked.append((request.method, request.url.path))
        return send(client, request, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(httpx.Client, "send", noted)
    return asked


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From now on the first answer to each kind of call that changes something is lost: their keys."""
    keys: list[str] = []
    lost: set[tuple[str, str]] = set()
    send = httpx.Client.send

    def once_lost(client: httpx.Client, request: httpx.Request, **more: object) -> httpx.Response:
        answer = send(client, request, **more)  # type: ignore[arg-type]
        call = request.method, request.url.path
        if request.method != "GET":
            keys.append(request.headers["Idempotency-Key"])
            if call not in lost:
                lost.add(call)
                raise httpx.ReadError("the answer is lost")
        return answer

    monkeypatch.setattr(httpx.Client, "send", once_lost)
    at_once = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: None)
    monkeypatch.setattr("img2img_shared.farm.patience.time", at_once)
    return keys


def test_who_asks_again_since_no_answer_came_is_told_what_the_first_call_did(
    farm: Farm, direct: Farm, fake_worker: FakeWorker, lost: list[str], tmp_path: Path
) -> None:
    job = direct.submit([picture(n) for n in range(3)], model="m", **SMALL)
    assert farm.pause(job)
    assert farm.resume(job)
    assert farm.set_priority(job, 7)
    farm.set_keep(job, "30d")
    for _ in range(2):
        fake_worker.ledger.fail(fake_worker.await_claim(), "no")
    assert farm.retry(job) == 2
    assert farm.cancel(job) == 3
    results = len(list(direct._service.store.list(f"jobs/{job}")))
    assert results > 0
    assert farm.remove(job) == results
    file = tmp_path / "detail.pth"
    file.write_bytes(b"weights")
    pushed = farm.models.push(file, kind="upscaler").model
    assert farm.models.remove("detail").sha256 == pushed.sha256
    assert farm.models.all() == []
    assert len(lost) == 2 * len(set(lost))
    done = [(line.action, line.detail) for line in reversed(list(direct.audit(job)))]
    assert [action for action, _ in done] == [
        "pause",
        "resume",
        "priority",
        "keep",
        "retry",
        "cancel",
        "remove",
    ]


def test_a_job_whose_size_is_its_pictures_own_can_be_read(farm: Farm, direct: Farm) -> None:
    job = farm.submit(picture(1), model="m", fit=0)
    assert farm.job(job).params == direct.job(job).params


def test_a_job_goes_there_and_back(farm: Farm, direct: Farm, fake_worker: FakeWorker, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(picture(1))
    own = Picture(image=picture(2), prompt="own", seed=77, name="b", folder="x")
    stored: list[int] = []
    told: dict[str, Any] = {
        "name": "summer",
        "tags": ["a", "client=b"],
        "priority": 3,
        "progress": stored.append,
    }
    job = farm.submit([tmp_path / "cat.png", own], model="m", mask=picture(9), **told, **SMALL)
    assert stored == [1, 2]
    near, far = direct.job(job), farm.job(job)
    assert (far.params, far.n_inputs, far.name, far.priority) == (near.params, 2, "summer", 3)
    assert far.tags == near.tags == ("a", "client=b")
    assert [status.state for status in direct.jobs()] == [JobState.PENDING]
    fake_worker.work()
    assert fake_worker.seeds[1] == 77
    expected = {result.name: (result.input, result.path, result.read()) for result in direct.results(job)}
    found = {result.name: (result.input, result.path, result.read()) for result in farm.results(job)}
    assert found == expected
    assert set(found) == {"cat.png", "x/b.png"}
    assert found["cat.png"][1] == str(tmp_path / "cat.png")
    (result, _) = farm.results(job)
    assert result.save(tmp_path / "out").read_bytes() == result.read()
    with pytest.raises(Refused, match="input"):
        result.save(tmp_path)


def test_results_come_as_they_end(farm: Farm, fake_worker: FakeWorker) -> None:
    job = farm.submit([picture(n) for n in range(3)], model="m", **SMALL)
    results = farm.results(job)
    seen = []
    for _ in range(3):
        fake_worker.work(1)
        seen.append(next(results).index)
    assert sorted(seen) == [0, 1, 2]
    assert next(results, None) is None


def test_a_failed_image_tells_its_reason_by_name(farm: Farm, fake_worker: FakeWorker) -> None:
    job = farm.submit([Picture(image=picture(), name="dog")], model="m", **SMALL)
    claim = fake_worker.claim()
    assert claim is not None
    fake_worker.ledger.fail(claim, "it is too dark")
    (result,) = farm.results(job)
    assert (result.name, result.reason) == ("dog.png", "it is too dark")
    with pytest.raises(StoreError, match="too dark"):
        result.read()
    (image,) = farm.images(job)
    assert (image.state, image.name, image.reason) == (ImageState.FAILED, "dog", "it is too dark")
    assert farm.retry(job) == 1
    fake_worker.work()
    assert [each.reason for each in farm.results(job)] == [None]


def test_jobs_are_controlled_from_afar(farm: Farm, fake_worker: FakeWorker) -> None:
    job = farm.submit([picture(n) for n in range(2)], model="m", name="Autumn", **SMALL)
    assert (farm.pause(job), farm.pause(job)) == (True, False)
    assert farm.status(job).state is JobState.PAUSED
    assert farm.resume(job)
    assert farm.set_priority(job, 7)
    assert [each.priority for each in farm.jobs(search="autumn", states=[JobState.PENDING], model="m")] == [7]
    assert farm.jobs(tags=["other"]) == []
    assert farm.preview(job) is None
    with pytest.raises(Refused, match="has not ended"):
        farm.remove(job)
    assert farm.cancel(job) == 2
    assert farm.remove(job) > 0
    with pytest.raises(NotFound):
        farm.status(job)
    assert [each.info.id for each in farm.workers()] == [fake_worker.worker]


def test_a_watch_follows_a_job_to_its_end(farm: Farm, fake_worker: FakeWorker) -> None:
    job = farm.submit(picture(), model="m", **SMALL)
    watch = farm.watch(job)
    assert next(watch).state is JobState.PENDING
    fake_worker.work()
    assert [status.done for status in watch][-1] == 1


def test_what_the_farm_refuses_is_told_as_if_it_were_near(farm: Farm, direct: Farm) -> None:
    asks: list[Callable[[Farm], str]] = [
        lambda each: each.submit(picture(), model="m", steps=0),
        lambda each: each.submit([{"image": picture(), "cfg_scale": "x"}], model="m"),
        lambda each: each.submit([], model="m"),
        lambda each: each.submit("nowhere.png", model="m"),
        lambda each: each.submit(picture(), model="m", prompt="<loha:x:1>"),
        lambda each: each.submit(picture(), model="m", name="a\nb"),
        lambda each: each.submit(picture(), model="m", priority=1000),
    ]
    for refused in asks:
        messages = []
        for each in (direct, farm):
            with pytest.raises(Refused) as caught:
                refused(each)
            messages.append((caught.value.field, str(caught.value)))
        assert messages[0] == messages[1]
    for job in ("0" * 16, "x"):
        with pytest.raises(FarmError):
            farm.status(job)


def test_a_repeat_gives_the_first_job_and_a_changed_one_is_a_conflict(farm: Farm) -> None:
    asked: dict[str, Any] = {"model": "m", "idempotency_key": "order-1", **SMALL}
    assert farm.submit(picture(), **asked) == farm.submit(picture(), **asked)
    with pytest.raises(Conflict) as caught:
        farm.submit(picture(), prompt="other", **asked)
    assert caught.value.differs == ["prompt"]


def test_no_picture_is_sent_twice(farm: Farm, store: Path, requests: list[tuple[str, str]]) -> None:
    for _ in range(2):
        farm.submit([picture(1), picture(2), picture(1)], model="m", **SMALL)
    assert 2 <= requests.count(("POST", "/v1/inputs")) <= 3  # two of one picture may be on their way at once
    farm.submit([picture(1), picture(3)], model="m", **SMALL)
    assert len(list(Store(store).list("inputs"))) == 3
    assert requests.count(("POST", "/v1/inputs")) <= 4


def test_a_gateway_that_is_away_for_a_moment_is_waited_for(
    redis_url: str, tmp_path: Path, requests: list[tuple[str, str]]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Farm(f"http://127.0.0.1:{port}") as farm:
        jobs: list[str] = []
        asking = threading.Thread(target=lambda: jobs.append(farm.submit(picture(), model="m", **SMALL)))
        asking.start()
        while not requests:
            asking.join(0.01)
        with Gateway(redis_url, tmp_path, port=port):
            asking.join()
            assert farm.status(jobs[0]).n == 1


def test_a_gateway_that_stays_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_client, "OUTAGE", 0.0)
    with (
        Farm("http://127.0.0.1:1") as farm,
        pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 does not"),
    ):
        farm.status("0" * 16)


def test_events_go_on_after_the_gateway_was_restarted(redis_url: str, tmp_path: Path) -> None:
    fake_worker = FakeWorker(redis_url, tmp_path)
    with Gateway(redis_url, tmp_path) as gateway, Farm(gateway.url) as farm:
        job = farm.submit([picture(n) for n in range(3)], model="m", **SMALL)
        results = farm.results(job)
        fake_worker.work(1)
        seen = [next(results).index]
        port = gateway.port
    with Farm(f"http://127.0.0.1:{port}") as farm:
        results = farm.results(job)
        with Gateway(redis_url, tmp_path, port=port):
            seen = [next(results).index]
            fake_worker.work()
            seen += [result.index for result in results]
    fake_worker.client.close()
    assert sorted(seen) == [0, 1, 2]


def test_a_key_is_sent_and_wanted(redis_url: str, tmp_path: Path) -> None:
    with Farm(redis_url, tmp_path) as direct, Gateway(redis_url, tmp_path) as gateway:
        keys = ApiKeys(direct._service.redis, direct._service.store)
        _, secret = keys.create("shop", "shop", rate=1_000_000, quota=1000)
        with Farm(gateway.url) as farm:
            for denied in (farm.jobs, lambda: farm.submit(picture(), model="m", **SMALL)):
                with pytest.raises(FarmError, match="wants an API key"):
                    denied()
        with Farm(gateway.url, key=secret) as farm:
            job = farm.submit(picture(), model="m", **SMALL)
            assert [each.id for each in farm.jobs()] == [job]
            assert secret not in repr(farm.settings)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"redis_url": "https://"}, "farm_url is 'https://': write https://HOST"),
        ({"redis_url": "https://me:secret@farm.example"}, "give the API key as key="),
        (
            {"redis_url": "https://farm.example", "store_url": "s3://b"},
            "leave it out: https://farm.example",
        ),
        ({"redis_url": "https://farm.example", "key": "a\nb"}, "give one as `img2img key new` printed it"),
    ],
)
def test_what_no_gateway_can_be_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused) as caught:
        Farm(**given)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_what_a_gateway_does_not_tell_is_refused(farm: Farm) -> None:
    with pytest.raises(Refused, match="name the farm's Redis and store"):
        farm.serve("m")


def test_asyncio_has_the_same_farm(gateway: Gateway, fake_worker: FakeWorker) -> None:
    async def use() -> list[bytes]:
        async with AsyncFarm(gateway.url, settings=Settings()) as farm:
            job = await farm.submit([picture(n) for n in range(2)], model="m", **SMALL)
            assert [each.id for each in await farm.jobs()] == [job]
            watch = farm.watch(job)
            assert (await anext(watch)).state is JobState.PENDING
            abandoned = farm.results(job)
            task = asyncio.ensure_future(anext(abandoned))
            await asyncio.sleep(0)
            task.cancel()  # whoever goes away holds up nobody
            await asyncio.to_thread(fake_worker.work)
            found = [result.read() async for result in farm.results(job)]
            assert [each.state async for each in farm.images(job)] == [ImageState.DONE] * 2
            assert [status.state async for status in watch][-1] is JobState.DONE
            assert await farm.remove(job) > 0
            return found

    assert len(asyncio.run(use())) == 2


def test_the_command_line_goes_through_a_gateway(
    gateway: Gateway, fake_worker: FakeWorker, tmp_path: Path
) -> None:
    environment = {**os.environ, "IMG2IMG_FARM_URL": gateway.url, "COLUMNS": "100"}
    (tmp_path / "cat.png").write_bytes(picture(1))
    options = ["--model", "m", "--name", "summer", "--size", "64x64"]
    job = ask(environment, "submit", tmp_path / "cat.png", *options)["id"]
    fake_worker.work()
    out = tmp_path / "out"
    assert gateway.url in run(environment, "fetch", job, "--out", out).stderr
    assert [each.name for each in out.iterdir()] == ["cat.png"]
    assert "no worker 'w' lives" in run(environment, "drain", "w", code=2).stderr


def test_what_the_command_line_says_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMG2IMG_FARM_URL", "https://farm.example")
    said = Connection(redis_url="redis://here", store_url="s3://b", data_dir=None, tenant=None)
    assert said.settings(Settings).farm_url is None
    assert Connection(redis_url=None, store_url=None, data_dir=None, tenant=None).settings(Settings).farm_url
