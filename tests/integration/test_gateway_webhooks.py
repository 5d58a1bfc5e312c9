"""Webhooks: what is told, how it is signed, tried again, and given up."""

import asyncio
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from redis import Redis
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from img2img_gateway import webhook_deliveries, webhook_dispatcher, webhook_request, webhook_targets
from img2img_gateway.app import create_app
from img2img_gateway.async_farm import THREADS, AsyncFarm
from img2img_gateway.gateway_settings import GatewaySettings
from img2img_gateway.webhook_deliveries import AT_ONCE, Deliveries, Delivery
from img2img_gateway.webhook_dispatcher import WebhookDispatcher
from img2img_gateway.webhook_request import post
from img2img_gateway.webhook_store import LOOKUPS
from img2img_gateway.webhook_targets import find_target, is_public
from img2img_shared.errors import Refused, Unavailable
from img2img_shared.ledger.connect import FarmRedis, Word
from tests.eventually import eventually
from tests.integration.gateway import FakeWorker, Gateway, picture
from tests.servers import RedisServer, raw_client

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


def test_hosts_that_take_long_to_look_up_hold_up_no_other_request(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over, looked_up = threading.Event(), []

    def look_up(*_: object) -> list[str]:
        looked_up.append(1)
        is_over.wait(600)
        return []

    monkeypatch.setattr(webhook_targets, "_look_up", look_up)
    data = {"model": "m", "webhook": json.dumps({"url": "https://slow.example/"})}
    with ThreadPoolExecutor(2 * THREADS) as pool:
        try:
            for _ in range(2 * THREADS):
                pool.submit(
                    gateway.http.post, "/v1/jobs/upload", data=data, files=[("image", ("a.png", picture()))]
                )
            eventually("as many as may are looked up", lambda: len(looked_up) in (LOOKUPS, THREADS))
            assert gateway.http.get("/v1/jobs").status_code == 200
        finally:
            is_over.set()


def test_what_is_not_taken_is_sent_again_under_the_same_id(
    gateway: Gateway,
    fake_worker: FakeWorker,
    receiver: Receiver,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhook_deliveries, "BACKOFF", (0, 0, 0))
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
    monkeypatch.setattr(webhook_deliveries, "BACKOFF", (0,))
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


def test_images_whose_events_are_gone_when_a_gateway_starts_are_told_too(
    mortal_redis: RedisServer, store: Path, receiver: Receiver
) -> None:
    farm = (mortal_redis.url, store)
    with Gateway(*farm, **GATEWAY) as gateway:
        job = submit(gateway, receiver.url, 4, events=["image", "failed"])
        fake_worker = FakeWorker(*farm)
        fake_worker.end(fake_worker.await_claim())
        eventually("the first is told", lambda: receiver.got)
    fake_worker.end(fake_worker.await_claim())
    fake_worker.ledger.fail(fake_worker.await_claim(), "too dark")
    fake_worker.work()
    fake_worker.client.close()
    with raw_client(mortal_redis.url) as client:  # as many events later would
        (stream,) = client.keys(f"*:job:{job}:events")
        client.xtrim(stream, maxlen=1, approximate=False)

    def told() -> dict[str, Any]:
        return {
            headers["webhook-id"]: json.loads(body) for headers, body in receiver.got
        }  # a repeat has the same

    with Gateway(*farm, **GATEWAY):
        eventually("four images and the end are told, in any order", lambda: len(told()) >= 5)
    images = [(each["data"]["index"], each["type"]) for each in told().values() if "index" in each["data"]]
    assert sorted(images) == [(0, "image.done"), (1, "image.done"), (2, "image.failed"), (3, "image.done")]


class Dripping:
    """A server that takes what comes, and answers a byte at a time, without an end."""

    def __init__(self) -> None:
        self.taken = 0
        self._stop = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/"
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._stop.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                taken, _ = self._listening.accept()
                self.taken += 1
                threading.Thread(target=self._drip, args=[taken], daemon=True).start()

    def _drip(self, taken: socket.socket) -> None:
        with taken, suppress(OSError):
            taken.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while not self._stop.wait(0.05):
                taken.sendall(b"a")


@pytest.fixture
def dripping() -> Iterator[Dripping]:
    dripping = Dripping()
    yield dripping
    dripping.close()


def test_a_target_that_answers_a_byte_at_a_time_is_cut_off(
    dripping: Dripping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_request, "DELIVERY", 0.3)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1 did not answer within 0\.3 s"):
        post(find_target(dripping.url, private=True), b"{}", {})


def test_targets_that_do_not_end_their_answers_stop_no_other_webhook(
    gateway: Gateway, fake_worker: FakeWorker, receiver: Receiver, dripping: Dripping
) -> None:
    for _ in range(8):
        submit(gateway, dripping.url)
    fake_worker.work()
    eventually("all eight are held", lambda: dripping.taken == 8)
    job = submit(gateway, receiver.url)
    fake_worker.work()
    eventually("it is told", lambda: receiver.got)
    assert receiver.bodies()[0]["data"]["job"] == job


def _hang(elsewhere: Deliveries, tenant: str, *hosts: str) -> Counter[str]:
    """How many deliveries to each host begin, with more to each than may; none of them ends."""
    for host in hosts:
        for number in range(AT_ONCE):
            elsewhere.send(tenant, f"http://{host}/", f"{tenant}.{host}-{number}", "job.done", {})
    return Counter(each.partition("-")[0] for each in elsewhere.due())


def test_a_host_holds_a_fifth_of_the_deliveries_and_a_tenant_a_third(elsewhere: Deliveries) -> None:
    first = _hang(elsewhere, "busy", "slow").total()
    assert first == AT_ONCE // 5 + 1
    others = _hang(elsewhere, "busy", *(f"slow{number}" for number in range(40))).total()
    assert first + others == AT_ONCE // 3 + 1
    assert elsewhere.due() == []


@pytest.mark.parametrize("n_hosts", [1, 2, 8, 20])
def test_hosts_that_do_not_answer_leave_room_for_others_of_their_tenant(
    elsewhere: Deliveries, n_hosts: int
) -> None:
    _hang(elsewhere, "busy", *(f"slow{number}" for number in range(n_hosts)))
    assert _hang(elsewhere, "busy", "quick")["busy.quick"] > 0


@pytest.mark.parametrize("n_tenants", [1, 2, 4, 8])
def test_tenants_whose_hosts_do_not_answer_leave_room_for_others(
    elsewhere: Deliveries, n_tenants: int
) -> None:
    for number in range(n_tenants):
        _hang(elsewhere, f"busy{number}", "slow", "slower", "slowest")
    assert _hang(elsewhere, "quick", "host")["quick.host"] > 0


def test_what_is_due_at_once_is_taken_in_turn(elsewhere: Deliveries) -> None:
    for tenant, host in (("a", "x"), ("a", "y"), ("b", "x")):
        for number in range(AT_ONCE):
            elsewhere.send(tenant, f"http://{host}/", f"{tenant}.{host}-{number}", "job.done", {})
    due = Counter(each.partition("-")[0] for each in elsewhere.due())
    assert due["b.x"] >= due["a.x"] > 0
    assert abs(due["a.x"] - due["a.y"]) <= 1


def test_a_host_that_does_not_answer_holds_up_no_other_host_of_its_tenant(
    gateway: Gateway,
    fake_worker: FakeWorker,
    receiver: Receiver,
    dripping: Dripping,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhook_request, "DELIVERY", 3600)
    for _ in range(AT_ONCE // 2):
        submit(gateway, dripping.url)
    fake_worker.work()
    eventually("it holds all that it may have", lambda: dripping.taken > AT_ONCE // 5)
    job = submit(gateway, receiver.url)
    fake_worker.work()
    eventually("it is told", lambda: receiver.got)
    assert receiver.bodies()[0]["data"]["job"] == job


def test_deliveries_of_an_older_version_are_made_once(
    elsewhere: Deliveries, receiver: Receiver, redis: Redis
) -> None:
    elsewhere.send("studio", receiver.url, "message", "job.done", {})
    (waiting,) = redis.keys("{elsewhere}:gateway:due:*:waiting")
    redis.rename(waiting, "{elsewhere}:gateway:due:studio:waiting")
    redis.delete("{elsewhere}:gateway:due")
    redis.sadd("{elsewhere}:gateway:due", "studio")  # where a version without lanes had it
    assert elsewhere.due() == ["message"]
    elsewhere.deliver("message")
    assert len(receiver.got) == 1
    redis.zadd("{elsewhere}:gateway:due:studio:waiting", {"message": 0})  # a minute later
    redis.delete("{elsewhere}:gateway:due:studio:taken")
    assert elsewhere.due() == []
    assert redis.keys("{elsewhere}:gateway:due*") == []


def test_a_delivery_of_a_newer_version_is_made(elsewhere: Deliveries, receiver: Receiver) -> None:
    newer = {**asdict(Delivery(id="message", tenant="studio", url=receiver.url, body="{}")), "urgency": 3}
    elsewhere._due.put(f"studio {urlsplit(receiver.url).netloc}", "message", newer, 0)
    assert elsewhere.due() == ["message"]
    elsewhere.deliver("message")
    assert len(receiver.got) == 1


@pytest.fixture
def elsewhere(gateway: Gateway) -> Deliveries:
    """Deliveries that no gateway makes."""
    settings = gateway.settings.model_copy(update={"prefix": "elsewhere"})
    return Deliveries(AsyncFarm(settings), lambda _: "whsec_c2VjcmV0")


@pytest.mark.parametrize("survived", range(4))
def test_a_message_is_sent_whenever_its_gateway_dies_while_it_notes_it(
    elsewhere: Deliveries, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    ask, asked = FarmRedis._ask, 0

    def ask_and_die(self: FarmRedis, *commands: Sequence[Word]) -> list[Any]:
        nonlocal asked
        asked += 1
        if asked > survived:
            raise Unavailable("it is dead")
        return ask(self, *commands)

    with monkeypatch.context() as patches, suppress(Unavailable):
        patches.setattr(FarmRedis, "_ask", ask_and_die)
        elsewhere.send("studio", "http://here/", "message", "job.done", {})
    elsewhere.send("studio", "http://here/", "message", "job.done", {})
    assert elsewhere.due() == ["message"]


def test_a_gateway_whose_clock_is_hours_ahead_puts_nothing_off_by_hours(
    elsewhere: Deliveries, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_deliveries, "BACKOFF", (0,))
    receiver.answers += [500]
    with monkeypatch.context() as patches:
        now = time.time() + 5 * 3600
        patches.setattr(time, "time", lambda: now)
        elsewhere.send("studio", receiver.url, "message", "job.done", {})
        elsewhere.deliver("message")
    assert elsewhere.due() == ["message"]


def dispatchers() -> int:
    return sum(thread.name == "webhooks" for thread in threading.enumerate())


def test_of_too_many_dead_messages_the_newest_are_kept(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_deliveries, "BACKOFF", ())
    monkeypatch.setattr(webhook_deliveries, "DEAD", 2)
    elsewhere = gateway.settings.model_copy(update={"prefix": "elsewhere", "webhook_private": False})
    deliveries = Deliveries(AsyncFarm(elsewhere), lambda _: "")
    for number in range(3):
        deliveries.send("studio", "http://127.0.0.1:1/", f"message-{number}", "job.done", {})
        deliveries.deliver(f"message-{number}")
    assert [each.id for each in deliveries.dead("studio")] == ["message-2", "message-1"]


def test_a_gateway_that_stops_is_quiet_and_leaves_another_of_its_process_to_tell(
    gateway: Gateway,
    fake_worker: FakeWorker,
    redis: Redis,
    store: Path,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = dispatchers()
    with Gateway(gateway.settings.redis_url or "", store, **GATEWAY):
        eventually("both wait for messages", lambda: redis.info("clients")["blocked_clients"] == 2)
    assert dispatchers() == before
    submit(gateway, receiver.url)
    fake_worker.work()
    eventually("it is told", lambda: receiver.got)
    assert caplog.messages == []


def test_a_gateway_that_stops_as_soon_as_it_has_started_leaves_no_thread(
    mortal_redis: RedisServer, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = dispatchers()
    app = create_app(GatewaySettings(redis_url=mortal_redis.url, store_url=str(store)))

    async def start_and_stop() -> None:
        async with app.router.lifespan_context(app):
            await asyncio.sleep(0)

    asyncio.run(start_and_stop())
    assert dispatchers() == before
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
        "https://9.9.9.9\0.example.com/",
        "https://9.9.9.9/\ud800",
    ],
)
def test_addresses_that_are_not_public_are_refused(url: str) -> None:
    with pytest.raises(Refused):
        find_target(url, private=False)


@pytest.mark.parametrize(
    "address",
    [
        *("0.1.2.3", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.2", "169.254.169.254"),
        *("172.31.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1"),
        *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
        *("168.63.129.16", "::", "::1", "::127.0.0.1", "::9.9.9.9", "::ffff:9.9.9.9", "64:ff9b::7f00:1"),
        *("64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "5f00::1"),
        *("fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1"),
    ],
)
def test_no_address_but_a_hosts_on_the_internet_is_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "9.9.9.9", "192.0.1.1", "2606:4700::1111", "2a00:1450::1"])
def test_a_hosts_address_on_the_internet_is_public(address: str) -> None:
    assert is_public(address)


def test_a_refusal_tells_nothing_of_what_a_name_means_here(monkeypatch: pytest.MonkeyPatch) -> None:
    told = set()
    for addresses in ([], ["10.1.2.3"], ["9.9.9.9", "fd00::1"]):
        monkeypatch.setattr(webhook_targets, "_look_up", lambda *_, found=addresses: found)
        with pytest.raises(Refused) as caught:
            find_target("https://vault.internal/", private=False)
        told.add(str(caught.value))
    assert len(told) == 1


def test_a_name_that_means_another_address_later_is_not_called_there(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    monkeypatch.setattr(webhook_targets, "_look_up", lambda *_: ["127.0.0.1"])
    with pytest.raises(Refused):
        find_target("https://rebinds.example/", private=False)
    target = find_target(f"http://rebinds.example:{receiver.server.server_port}/hook", private=True)
    monkeypatch.setattr(webhook_targets, "_look_up", lambda *_: ["192.0.2.1"])
    assert post(target, b"{}", {}) == 204
    assert receiver.got[0][0]["Host"] == f"rebinds.example:{receiver.server.server_port}"


@pytest.fixture
def secure_receiver(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """One that speaks TLS as farm.example, by a certificate that is trusted here."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "farm.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("farm.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file = tmp_path / "certificate.pem"
    pem = serialization.Encoding.PEM
    file.write_bytes(certificate.public_bytes(pem) + key.private_bytes(pem, *plain))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    return receiver


def test_a_target_must_prove_its_name_and_not_its_address(
    secure_receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_targets, "_look_up", lambda *_: ["127.0.0.1"])
    port = secure_receiver.server.server_port
    assert post(find_target(f"https://farm.example:{port}/", private=True), b"{}", {}) == 204
    with pytest.raises(Unavailable, match="no valid certificate: Hostname mismatch"):
        post(find_target(f"https://other.example:{port}/", private=True), b"{}", {})


def test_a_target_without_tls_is_told_from_one_without_a_certificate(receiver: Receiver) -> None:
    url = f"https://127.0.0.1:{receiver.server.server_port}/"
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1 does not speak TLS"):
        post(find_target(url, private=True), b"{}", {})


def test_what_no_request_can_hold_is_written_as_browsers_write_it(receiver: Receiver) -> None:
    url = f"http://127.0.0.1:{receiver.server.server_port}/é b/%20?name=ö&x=1#top"
    target = find_target(url, private=True)
    assert target.path == "/%C3%A9%20b/%20?name=%C3%B6&x=1"
    assert post(target, b"{}", {}) == 204


def test_a_public_address_is_allowed_and_kept() -> None:
    target = find_target("https://9.9.9.9/a?b=c", private=False)
    assert (target.addresses, target.port, target.path) == (("9.9.9.9",), 443, "/a?b=c")


@pytest.mark.parametrize("damage", ["{}", "[]", "null", '{"tenant": "default", "url": 1, "events": 7}'])
def test_a_hook_that_cannot_be_read_is_named_and_waited_for(
    gateway: Gateway,
    fake_worker: FakeWorker,
    receiver: Receiver,
    redis: Redis,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    redis.hset("{img2img}:gateway:hooks", "damaged", damage)
    submit(gateway, receiver.url)
    fake_worker.work()
    eventually(
        "it is named", lambda: "{img2img}:gateway:hooks holds what the farm cannot read" in caplog.text
    )
    redis.hdel("{img2img}:gateway:hooks", "damaged")
    eventually("the other is told", lambda: receiver.got)


def test_an_outage_is_told_once(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = 0

    def away(_: WebhookDispatcher) -> None:
        nonlocal rounds
        rounds += 1
        raise Unavailable("Redis does not answer")

    with monkeypatch.context() as patches:
        patches.setattr(webhook_dispatcher, "ROUND", 0.0)
        patches.setattr(WebhookDispatcher, "round", away)
        eventually("it has tried again and again", lambda: rounds > 5)
    eventually("it goes on", lambda: "webhooks go on" in caplog.text)
    assert caplog.text.count("webhooks wait: Redis does not answer") == 1
