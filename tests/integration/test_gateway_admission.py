"""Who is let in is decided by headers alone; what is open to everybody."""

import select
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from img2img_gateway import readiness
from img2img_gateway.access import check_origin
from img2img_gateway.api_keys import ApiKeys
from img2img_gateway.app import create_app
from img2img_gateway.gateway_errors import Problem
from img2img_shared.ledger import FarmRedis
from img2img_shared.store import Store
from tests.eventually import eventually
from tests.integration.gateway import PATIENCE, FakeWorker, Gateway, picture
from tests.servers import RedisServer

PAPERS = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}


def post_paths() -> list[str]:
    """Every path that takes a POST, as the reference has it."""
    paths: dict[str, dict[str, Any]] = create_app().openapi()["paths"]
    return [path for path, methods in paths.items() if "post" in methods]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {**PAPERS, "Authorization": "Basic YW5uOm9uZQ=="},
    ],
)
def test_a_page_of_another_origin_may_not_call(gateway: Gateway, headers: dict[str, str]) -> None:
    files = [("image", ("a.png", picture()))]
    text = {**headers, "Content-Type": "text/plain"}
    post = gateway.http.post
    for answer in (
        post("/v1/jobs/upload", data={"model": "m"}, files=files, headers=headers),
        post("/sdapi/v1/interrupt", headers=text),
        post("/sdapi/v1/skip", headers=text),
        post("/sdapi/v1/options", content=b"{}", headers=text),
        gateway.http.get("/v1/jobs", headers=headers),
    ):
        assert answer.status_code == 403
        assert "IMG2IMG_CORS_ORIGINS" in answer.text
    assert gateway.http.get("/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, ()),
        ({"Sec-Fetch-Site": "none"}, ()),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.example"}, ()),
        ({"Origin": "http://127.0.0.1:7860"}, ()),
        (PAPERS, ("http://evil.example",)),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, ("*",)),
    ],
)
def test_programs_its_own_pages_and_allowed_ones_may(
    headers: dict[str, str], allowed: tuple[str, ...]
) -> None:
    check_origin(asked({"Host": "127.0.0.1:7860", **headers}), allowed)


def test_another_page_is_not_allowed_by_the_list() -> None:
    with pytest.raises(Problem):
        check_origin(asked({"Host": "127.0.0.1:7860", **PAPERS}), ("https://paint.example",))


def asked(headers: dict[str, str]) -> Request:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw})


def test_machines_are_told_what_answers(
    mortal_redis: RedisServer, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "FRESH", 0.0)
    with Gateway(mortal_redis.url, store) as gateway:

        def ready(status: int, **parts: bool) -> bool:
            answer = gateway.http.get("/ready")
            facts = answer.json()
            return answer.status_code == status and all(facts[name] == is_so for name, is_so in parts.items())

        assert ready(200, ready=True, redis=True, store=True, workers=False)
        other = FakeWorker(mortal_redis.url, store)
        other.client.close()
        eventually("the worker is seen", lambda: ready(200, workers=True))
        shutil.rmtree(store)
        store.touch()
        eventually("the store is missed", lambda: ready(503, ready=False, redis=True, store=False))
        store.unlink()
        store.mkdir()
        eventually("the store is back", lambda: ready(200, store=True))
        mortal_redis.kill()
        eventually("Redis is missed", lambda: ready(503, ready=False, redis=False, store=True, workers=False))
        assert gateway.http.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("POST", "/sdapi/v1/nonesuch", "a farm does not have AUTOMATIC1111's POST /sdapi/v1/nonesuch"),
        ("GET", "/v1/nonesuch", "there is no GET /v1/nonesuch"),
        ("GET", "/index.php", "there is no GET /index.php"),
    ],
)
def test_what_is_not_there_is_named(gateway: Gateway, method: str, path: str, told: str) -> None:
    answer = gateway.http.request(method, path)
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith(told)
    assert "/docs" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/nope", "/v1/nonesuch", "/sdapi/v1/<script>", "/queue"])
def test_a_browser_is_told_by_a_page_that_there_is_no_such_page(gateway: Gateway, path: str) -> None:
    answer = gateway.http.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert path.replace("<", "&lt;").replace(">", "&gt;") in answer.text
    assert "<script" not in answer.text
    assert 'href="/"' in answer.text
    assert 'href="/docs"' in answer.text


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/jobs", "GET, POST"),
        ("PATCH", "/v1/jobs/0123456789abcdef", "GET, DELETE"),
        ("GET", "/sdapi/v1/img2img", "POST"),
        ("PUT", "/sdapi/v1/options", "GET, POST"),
        ("POST", "/studio", "GET, HEAD"),
    ],
)
def test_a_method_that_a_path_does_not_have_is_told_which_it_has(
    gateway: Gateway, method: str, path: str, allowed: str
) -> None:
    answer = gateway.http.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    told = f"{path} does not take {method}, only {allowed}"
    assert answer.json()["detail"].startswith(told)


@pytest.fixture
def ring(farm_redis: FarmRedis, store: Path) -> ApiKeys:
    return ApiKeys(farm_redis, Store(store))


# From here on the gateway has seen a key, and stays closed to who has none.


def test_nothing_of_a_body_is_waited_for_without_a_key(gateway: Gateway, ring: ApiKeys) -> None:
    ring.create("some", "default")
    eventually("it has seen the key", lambda: gateway.http.get("/v1/jobs").status_code == 401)
    for path in post_paths():
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE) as connection:
            connection.sendall(f"{head}Content-Length: 60000000\r\n\r\n".encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 401"), path


def test_a_key_that_a_page_was_given_is_its_own_proof(gateway: Gateway, ring: ApiKeys) -> None:
    _, secret = ring.create("page", "default")
    for shown in ({"Authorization": f"Bearer {secret}"}, {"X-API-Key": secret}):
        assert gateway.http.get("/v1/jobs", headers={**PAPERS, **shown}).status_code == 200
    assert gateway.http.get("/v1/jobs", headers=PAPERS, auth=("any", secret)).status_code == 403


def test_people_find_what_is_here_without_a_key(gateway: Gateway, ring: ApiKeys) -> None:
    ring.create("some", "default")
    page = gateway.http.get("/", headers=PAPERS)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    for link in ("/docs", "/health", "/ready", "/openapi.json"):
        assert f'href="{link}"' in page.text
        assert gateway.http.get(link, headers=PAPERS).status_code == 200, link


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/inputs", "/v1/jobs/upload"])
def test_who_sends_slowly_leaves_room_for_others(
    redis_url: str, store: Path, ring: ApiKeys, path: str
) -> None:
    slow, other = (ring.create(tenant, tenant)[1] for tenant in ("slow", "other"))
    form = "Content-Type: multipart/form-data; boundary=x\r\n" if path.endswith("upload") else ""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {slow}\r\n{form}"
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' if form else b""
    with Gateway(redis_url, store, upload_space=400_000) as gateway, ExitStack() as open_ends:

        def upload(secret: str) -> int:
            body = picture() + bytes(100_000)
            return gateway.http.post("/v1/inputs", content=body, headers={"X-API-Key": secret}).status_code

        end: socket.socket

        def send_slowly() -> socket.socket:
            end = socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE)
            end.sendall(f"{head}Content-Length: 1000000\r\n\r\n".encode() + part + b"x" * 150_000)
            return open_ends.enter_context(end)

        def is_full() -> bool:
            nonlocal end
            if select.select([end], [], [], 0)[
                0
            ]:  # it came while an upload was there, and was refused itself
                end = send_slowly()
            return upload(slow) == 503

        end = send_slowly()
        eventually("its tenant has no more room", is_full)
        assert upload(other) == 201
        open_ends.close()
        eventually("what it had is free again", lambda: upload(slow) == 201)
