"""What becomes of the jobs of synchronous calls whose gateway is killed."""

import base64
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from img2img_gateway import open_calls
from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.gateway_settings import GatewaySettings
from img2img_gateway.open_calls import OpenCalls
from img2img_gateway.sdapi.tasks import Tasks
from img2img_shared.errors import Unavailable
from tests.eventually import eventually
from tests.integration.gateway import PATIENCE, FakeWorker, Gateway, picture
from tests.integration.test_gateway_process import Process


@pytest.fixture
def farm(redis_url: str, tmp_path: Path) -> Iterator[AsyncFarm]:
    farm = AsyncFarm(GatewaySettings(redis_url=redis_url, store_url=str(tmp_path)))
    yield farm
    farm.close()


def call(url: str, **fields: Any) -> threading.Thread:
    """Asks for a picture; whoever it asks may die meanwhile."""
    body = {"init_images": [base64.b64encode(picture()).decode()], "width": 64, "height": 64, **fields}

    def ask() -> None:
        with suppress(httpx.HTTPError):
            httpx.post(f"{url}/sdapi/v1/img2img", json=body, timeout=PATIENCE)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


def noted(redis: Redis) -> list[Any]:
    """The keys under which gateways have open calls."""
    found: Any = redis.keys("*:gateway:calls:*")
    return list(found)


def jobs(farm: AsyncFarm) -> list[str]:
    return [status.id for status in farm.ledger.jobs("default")]


def test_a_killed_gateways_calls_are_not_rendered_and_their_pictures_are_removed(
    redis_url: str, redis: Redis, farm: AsyncFarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(redis_url, tmp_path)
    fake_worker = FakeWorker(redis_url, tmp_path)
    url = f"http://127.0.0.1:{process.port}"
    callers = [call(url), call(url), call(url, save_images=True, prompt="kept")]
    eventually("all are submitted", lambda: len(jobs(farm)) == 3)
    eventually("two are noted", lambda: [redis.hlen(key) for key in noted(redis)] == [2])
    process.kill()
    for each in callers:
        each.join()
    assert fake_worker.work(2) == 2  # of the third nothing is rendered
    (kept,) = (each for each in jobs(farm) if farm.ledger.job(each, "default").params.prompt == "kept")
    survivor = OpenCalls(farm)
    survivor.round()
    assert len(noted(redis)) == 1  # signs of life are waited for first
    monkeypatch.setattr(open_calls, "DEAD", 0.01)

    def is_dropped() -> bool:
        survivor.round()
        return not noted(redis)

    eventually("the survivor drops them", is_dropped)
    fake_worker.work()
    fake_worker.client.close()
    farm.service.janitor.round()
    assert jobs(farm) == [kept]
    assert [each.name for each in (tmp_path / "jobs").iterdir()] == [kept]


def test_a_gateway_that_lives_keeps_its_calls(
    farm: AsyncFarm, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_calls, "DEAD", 3600.0)
    one, other = OpenCalls(farm), OpenCalls(farm)
    one.begin("default", "task(1)", ["0123456789abcdef"])
    for each in (one, other):
        each.round()
        each._regular_since -= 7200.0  # as after two hours
    other.round()
    assert len(noted(redis)) == 1
    redis.zadd("{img2img}:gateway:heard", {one._name: 1})
    other._redis_time -= 7200.0  # another Redis has taken its place, whose clock is ahead
    other.round()
    assert len(noted(redis)) == 1
    other._regular_since -= 7200.0
    other.round()
    assert noted(redis) == []


def test_an_answered_call_is_noted_no_longer(
    redis_url: str, tmp_path: Path, redis: Redis, farm: AsyncFarm
) -> None:
    with (
        Gateway(redis_url, tmp_path) as gateway,
        FakeWorker(redis_url, tmp_path),
    ):
        call(gateway.url).join()
        eventually("it is forgotten", lambda: not noted(redis))
        assert Tasks(farm, "default")._tasks.all() == {}


def test_an_outage_is_told_once(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = 0

    def away(_: OpenCalls) -> None:
        nonlocal rounds
        rounds += 1
        raise Unavailable("Redis does not answer")

    monkeypatch.setattr(open_calls, "BEAT", 0.0)
    with Gateway(redis_url, tmp_path):
        with monkeypatch.context() as patches:
            patches.setattr(OpenCalls, "round", away)
            eventually("it has tried again and again", lambda: rounds > 5)
        eventually("it goes on", lambda: "gateways that were killed go on" in caplog.text)
    assert caplog.text.count("Redis does not answer") == 1
