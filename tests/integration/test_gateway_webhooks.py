"""Webhooks: what is told, how it is signed, tried again, and given up."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from img2img_gateway import webhook_store
from img2img_gateway.app import create_app
from img2img_gateway.gateway_settings import GatewaySettings
from img2img_gateway.webhook_targets import find_target
from img2img_shared.errors import Refused, Unavailable
from tests.integration.gateway import FakeWorker, Gateway, eventually, picture
from tests.servers import RedisServer

GATEWAY: dict[str, Any] = {"webhook_private": True}


class Receiver:
    """A server that takes webhooks, or answers as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        #: statuses of the next answers; then 204
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the library's name
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers), body))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self.server.server_port}/hook?from=farm"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def submit(gateway: Gateway, url: str, n: int = 1, **webhook: Any) -> str:
    data = {"model": "m", "webhook": json.dumps({"url": url, **webhook})}
    files = [("image", ("a.png", picture()))] * n
    answer = gateway.http.post("/v1/jobs/upload", data=data, files=files)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_the_end_of_a_job_is_told_once_and_signed(
    gateway: Gateway, fake_worker: FakeWorker, receiver: Receiver
) -> None:
    job = submit(gateway, receiver.url, 2)
    fake_worker.work()
    eventually("it is told", lambda: receiver.got)
    headers, body = receiver.got[0]
    secret = gateway.http.get("/v1/webhooks/secret").json()["secret"]
    told = Webhook(secret).verify(body, headers)
    assert told["type"] == "job.done"
    assert told["data"] == {"job": job, "state": "done", "n": 2, "done": 2, "failed": 0}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.replace(b"job.done", b"job.gone"), headers)
    second = submit(gateway, receiver.url)
    fake_worker.work()
    eventually("the next is told", lambda: len(receiver.got) >= 2)
    assert [each["data"]["job"] for each in receiver.bodies()] == [job, second]


def test_each_image_is_told_if_asked_and_failures_are_told_as_such(
    gateway: Gateway, fake_worker: FakeWorker, receiver: Receiver
) -> None:
    job = submit(gateway, receiver.url, 2, events=["image", "failed"])
    fake_worker.end(fake_worker.await_claim())
    fake_worker.ledger.fail(fake_worker.await_claim(), "too dark")
    eventually("all are told", lambda: len(receiver.got) == 3)
    told = {each["type"]: each["data"] for each in receiver.bodies()}
    assert told["image.done"] == {"job": job, "index": 0, "reason": None}
    assert told["image.failed"] == {"job": job, "index": 1, "reason": "too dark"}
    assert (told["job.failed"]["done"], told["job.failed"]["failed"]) == (1, 1)


def test_what_is_not_taken_is_sent_again_under_the_same_id(
    gateway: Gateway,
    fake_worker: FakeWorker,
    receiver: Receiver,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhook_store, "BACKOFF", (0, 0, 0))
    receiver.answers += [500, 302]
    submit(gateway, receiver.url)
    fake_worker.work()
    eventually("it is taken", lambda: len(receiver.got) == 3)
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    eventually("nothing is due", lambda: not redis.keys("*gateway:deliveries*"))
    assert gateway.http.get("/v1/webhooks/dead").json() == []


def test_what_nobody_takes_is_listed_as_dead_and_may_be_tried_again(
    gateway: Gateway, fake_worker: FakeWorker, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_store, "BACKOFF", (0,))
    receiver.answers += [503, 503]
    job = submit(gateway, receiver.url)
    fake_worker.work()
    (dead,) = eventually("it is dead", lambda: gateway.http.get("/v1/webhooks/dead").json())
    assert (dead["tries"], dead["error"], dead["url"]) == (2, "localhost answered 503", receiver.url)
    assert json.loads(dead["body"])["data"]["job"] == job
    assert gateway.http.post(f"/v1/webhooks/dead/{dead['id']}/retry").json() == {"changed": 1}
    eventually("it is taken", lambda: len(receiver.got) == 3)
    assert gateway.http.get("/v1/webhooks/dead").json() == []
    assert gateway.http.post("/v1/webhooks/dead/none/retry").status_code == 404


def test_a_gateway_that_starts_later_tells_what_happened_meanwhile(
    mortal_redis: RedisServer, store: Path, receiver: Receiver
) -> None:
    farm = (mortal_redis.url, store)  # on which no other gateway tells it
    with Gateway(*farm, **GATEWAY) as gateway:
        job = submit(gateway, receiver.url)
    fake_worker = FakeWorker(*farm)
    assert fake_worker.work() == 1
    fake_worker.client.close()
    with Gateway(*farm, **GATEWAY):
        eventually("it is told", lambda: receiver.got)
    assert receiver.bodies()[0]["data"]["job"] == job


def couriers() -> int:
    return sum(thread.name == "webhooks" for thread in threading.enumerate())


def test_a_gateway_that_stops_is_quiet_and_leaves_another_of_its_process_to_tell(
    gateway: Gateway,
    fake_worker: FakeWorker,
    redis: Redis,
    store: Path,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = couriers()
    with Gateway(gateway.settings.redis_url or "", store, **GATEWAY):
        eventually("both wait for knocks", lambda: redis.info("clients")["blocked_clients"] == 2)
    assert couriers() == before
    submit(gateway, receiver.url)
    fake_worker.work()
    eventually("it is told", lambda: receiver.got)
    assert caplog.messages == []


def test_a_gateway_that_stops_as_soon_as_it_has_started_leaves_no_courier(
    mortal_redis: RedisServer, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = couriers()
    app = create_app(GatewaySettings(redis_url=mortal_redis.url, store_url=str(store)))

    async def start_and_stop() -> None:
        async with app.router.lifespan_context(app):
            await asyncio.sleep(0)

    asyncio.run(start_and_stop())
    assert couriers() == before
    assert caplog.messages == []


@pytest.mark.parametrize(
    "url",
    [
        "http://9.9.9.9/",
        "https://localhost/",
        "https://127.1/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://192.168.1.1/",
        "https://100.64.0.1/",
        "https://[::1]/",
        "https://[fe80::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://0.0.0.0/",
        "https://user:pass@9.9.9.9/",
        "https:///nohost",
        "file:///etc/passwd",
        "https://9.9.9.9:notaport/",
    ],
)
def test_addresses_that_are_not_public_are_refused(url: str) -> None:
    with pytest.raises((Refused, Unavailable)):
        find_target(url, private=False)


def test_a_public_address_is_allowed_and_kept() -> None:
    target = find_target("https://9.9.9.9/a?b=c", private=False)
    assert (target.addresses, target.port, target.path) == (("9.9.9.9",), 443, "/a?b=c")
