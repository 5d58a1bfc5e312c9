"""What a request may cost: the gateway's memory, whatever is sent, and by however many."""

import base64
import json
import os
import socket
import subprocess
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from img2img_gateway.api_keys import ApiKeys
from img2img_gateway.app import create_app
from img2img_gateway.json_route import INPUTS
from img2img_shared.ledger.connect import connect
from img2img_shared.picture_texts import read_texts
from img2img_shared.refusals import TOLD
from img2img_shared.store import Store
from tests.eventually import eventually
from tests.faults.farm import memory_of
from tests.integration.gateway import PATIENCE, Callers, FakeWorker
from tests.integration.test_gateway_process import command
from tests.plain_png import plain_png
from tests.processes import ended_unless_ready
from tests.servers import RedisServer, free_port

MIB = 2**20
#: bytes by which a gateway may grow for a moment: what requests may hold together, and the most that one
#: may cost above that, since texts beyond ASCII are wide
LIMIT = 700 * MIB
#: ... and for a request that is refused before anything is made of it
REFUSED = 150 * MIB
JSON = {"Content-Type": "application/json"}


class Measured:
    """A gateway as a process of its own, and what it ever held."""

    def __init__(self, folder: Path) -> None:
        self.server = RedisServer()
        self.folder = folder
        with connect(self.server.url) as redis:
            _, self.key = ApiKeys(redis, Store(folder)).create("some", "default")
        self.port = free_port()
        self._process = subprocess.Popen(
            command(self.server.url, folder, "--port", str(self.port)),
            env={**os.environ, "IMG2IMG_KEEP_ALIVE": "0.5"},
        )
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"X-API-Key": self.key}, timeout=300
        )
        with ended_unless_ready(self._process):
            eventually("it answers", self._answers)

    def _answers(self) -> bool:
        try:
            return self.http.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def resident(self) -> int:
        """Bytes that it holds."""
        return memory_of(self._process.pid, "VmRSS")

    def grown(self, request: Callable[[], httpx.Response]) -> tuple[int, httpx.Response]:
        """By how many bytes it grew, at its largest, while it answered; and the answer."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")  # its peak is from now on
        before = self.resident
        answer = request()
        return memory_of(self._process.pid, "VmHWM") - before, answer

    def close(self) -> None:
        self.http.close()
        self._process.terminate()
        self._process.wait(PATIENCE)
        self.server.remove()


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    measured = Measured(tmp_path_factory.mktemp("store"))
    yield measured
    measured.close()


def objects(size: int) -> bytes:
    """JSON of so many bytes, which becomes twenty times as many."""
    return b"[" + b"{}," * (size // 3) + b"{}]"


def test_a_body_costs_nothing_without_a_key(measured: Measured) -> None:
    url = f"http://127.0.0.1:{measured.port}/v1/jobs"
    grown, answer = measured.grown(
        lambda: httpx.post(url, content=objects(57 * MIB), headers=JSON, timeout=300)
    )
    assert answer.status_code == 401
    assert grown < REFUSED


@pytest.mark.parametrize("path", ["/v1/jobs", "/sdapi/v1/img2img"])
@pytest.mark.parametrize(
    "body",
    [
        objects(30 * MIB),
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"inputs":[' + b"1," * 2_000_000 + b"1]}",
        b'{"init_images":[' + b"1," * 900_000 + b"1]}",
        b"{" + b",".join(b'"%d":1' % number for number in range(300_000)) + b"}",
        b'{"' + b"a" * (20 * MIB) + b'":1}',
        b'{"steps":' + b"9" * (20 * MIB) + b"}",
    ],
    ids=["objects", "deep lists", "deep objects", "inputs", "pictures", "fields", "name", "number"],
)
def test_json_of_many_parts_is_refused_at_little_cost(measured: Measured, path: str, body: bytes) -> None:
    grown, answer = measured.grown(lambda: measured.http.post(path, content=body, headers=JSON))
    assert 400 <= answer.status_code < 500
    assert len(answer.content) < 10_000
    assert grown < REFUSED


def test_of_many_wrong_inputs_the_first_are_told(measured: Measured) -> None:
    body = {"inputs": [{"image": "QQ==", "seed": "x", "colour": 1}] * (INPUTS - 1)}
    grown, answer = measured.grown(lambda: measured.http.post("/v1/jobs", json=body))
    assert answer.status_code == 422
    told = answer.json()["errors"]
    assert len(told) == TOLD
    assert {each["field"] for each in told[:2]} == {"inputs.0.seed", "inputs.0.colour"}
    assert grown < LIMIT


@pytest.mark.parametrize(
    "fields",
    [
        [(f"field{number}", b"x") for number in range(20_000)],
        [(f"field{number}", b"x" * MIB) for number in range(100)],
        [("params", b"[" * 200_000)],
        [("params", json.dumps({str(number): 1 for number in range(20_000)}).encode())],
        [("prompt", b"one"), ("prompt", b"two")],
    ],
    ids=["many", "long", "deep", "unknown", "twice"],
)
def test_a_forms_fields_are_bounded(measured: Measured, fields: list[tuple[str, bytes]]) -> None:
    parts: list[Any] = [(name, (None, data)) for name, data in fields] + [("image", ("a.png", plain_png(0)))]
    grown, answer = measured.grown(lambda: measured.http.post("/v1/jobs/upload", files=parts))
    assert answer.status_code == 422
    assert len(answer.content) < 10_000
    assert grown < REFUSED


@pytest.mark.parametrize(
    "start",
    [b'--x\r\nContent-Disposition: form-data; name="image"; filename="', b"--x\r\nX-", b"", b"--"],
    ids=["filename", "header", "preamble", "boundary"],
)
def test_what_surrounds_a_forms_parts_is_bounded(measured: Measured, start: bytes) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    body = start + b"a" * (40 * MIB)
    grown, answer = measured.grown(lambda: measured.http.post("/v1/jobs/upload", content=body, headers=kind))
    assert answer.status_code == 422
    assert grown < REFUSED


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG's."""
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def test_the_texts_of_a_picture_are_bounded_together(measured: Measured) -> None:
    packed = zlib.compress(b"a" * MIB)
    texts = b"".join(chunk(b"zTXt", b"key%d\0\0" % number + packed) for number in range(400))
    picture = plain_png(0)[:8] + chunk(b"tEXt", b"first\0one") + texts
    body = {"image": base64.b64encode(picture).decode()}
    grown, answer = measured.grown(lambda: measured.http.post("/sdapi/v1/png-info", json=body))
    assert answer.status_code == 200
    assert answer.json()["items"]["first"] == "one"
    assert len(answer.content) < 2 * MIB
    assert grown < REFUSED


@pytest.mark.parametrize("file", [plain_png(0)[:8] + bytes(12 * MIB), b"\xff\xd8" + b"\xff\xe1\0\0" * MIB])
def test_a_picture_of_endless_empty_parts_has_no_text(file: bytes) -> None:
    assert read_texts(file) == {}


def test_many_large_requests_share_what_memory_there_is(measured: Measured) -> None:
    picture = os.urandom(40 * MIB)
    text = json.dumps({"model": "m", "inputs": [{"image": base64.b64encode(picture).decode()}]}).encode()
    wide = json.dumps({"prompt": "🦊" + "a" * (60 * MIB)}, ensure_ascii=False).encode()
    form = [("image", ("a.png", picture)), ("image", ("b.png", picture))]
    post = measured.http.post
    calls: list[Callable[[], httpx.Response]] = [
        *[lambda: post("/v1/jobs", content=text, headers=JSON)] * 3,
        lambda: post("/sdapi/v1/img2img", content=wide, headers=JSON),
        *[lambda: post("/v1/jobs/upload", data={"model": "m"}, files=form)] * 3,
        *[lambda: post("/v1/inputs", content=picture)] * 3,
    ]

    def all_at_once() -> httpx.Response:
        with ThreadPoolExecutor(len(calls)) as pool:
            answers = [each.result() for each in [pool.submit(call) for call in calls]]
        assert [answer.status_code for answer in answers] == [201] * 3 + [422] + [201] * 6
        return answers[0]

    grown, _ = measured.grown(all_at_once)
    assert grown < LIMIT + 256 * MIB  # bodies, and pictures beside them


def test_a_job_of_four_million_outputs_is_listed_by_the_page(measured: Measured) -> None:
    form = {"model": "m", "images_per_input": "1000000"}
    files = [("image", ("a.png", plain_png(0)))] * 4
    job = measured.http.post("/v1/jobs/upload", data=form, files=files).json()
    assert job["n"] == 4_000_000
    for page in (
        "",
        "/images?start=3999000&limit=1000",
        "/results?start=3999000&limit=1000",
        "/results.zip?start=3999000&limit=1000",
        "/images/3999999",
    ):
        grown, answer = measured.grown(lambda page=page: measured.http.get(f"/v1/jobs/{job['id']}{page}"))  # type: ignore[misc]
        assert answer.status_code == 200, page
        assert len(answer.content) < 200_000
        assert grown < REFUSED, page
    measured.http.post(f"/v1/jobs/{job['id']}/cancel")


def json_endpoints() -> list[tuple[str, str]]:
    """(method, path) of all that take JSON, as the reference has it."""
    paths: dict[str, dict[str, Any]] = create_app().openapi()["paths"]
    return [
        (method.upper(), path.replace("{job}", "12345678"))
        for path, methods in paths.items()
        for method, facts in methods.items()
        if "application/json" in facts.get("requestBody", {}).get("content", {})
    ]


def test_every_endpoint_that_takes_json_takes_it_within_these_bounds(measured: Measured) -> None:
    assert len(json_endpoints()) > 5
    for method, path in json_endpoints():
        answer = measured.http.request(method, path, content=objects(4 * MIB), headers=JSON)
        assert answer.status_code == 422, path
        assert "more than 1,000,000 values" in answer.text, path


def unbounded_texts(described: Any, schemas: dict[str, Any], path: str) -> Iterator[str]:
    """Where a request may hold a text of any length."""
    if "$ref" in described:
        name = described["$ref"].rpartition("/")[2]
        yield from unbounded_texts(schemas[name], schemas, name)
    if described.get("type") == "string" and not {"maxLength", "enum", "const", "format"} & described.keys():
        yield path
    for name, field in described.get("properties", {}).items():
        yield from unbounded_texts(field, schemas, f"{path}.{name}")
    for each in (*described.get("anyOf", ()), *(described[key] for key in ("items",) if key in described)):
        yield from unbounded_texts(each, schemas, path)


def test_no_text_but_a_pictures_may_be_endless() -> None:
    document = create_app().openapi()
    found = {
        where.rpartition(".")[2]
        for methods in document["paths"].values()
        for facts in methods.values()
        for body in facts.get("requestBody", {}).get("content", {}).values()
        if "$ref" in body["schema"]
        for where in unbounded_texts(body["schema"], document["components"]["schemas"], "")
    }
    pictures = {"image", "mask", "control/0", "init_images", "firstpass_image", "latent_mask"}
    assert found <= pictures | {"controlnet_input_images", "controlnet_masks", "data"}


@pytest.mark.parametrize("name", ["sampler_name", "scheduler", "hr_sampler_name", "prompt", "background"])
def test_a_parameter_of_many_megabytes_is_refused_at_once(measured: Measured, name: str) -> None:
    body = {"params": {name: "x" * (30 * MIB)}, "inputs": [{"image": "QQ=="}]}
    grown, answer = measured.grown(lambda: measured.http.post("/v1/jobs", json=body))
    assert answer.status_code == 422
    assert len(answer.content) < 10_000
    assert grown < REFUSED


def test_a_client_that_hangs_up_in_a_body_leaves_nothing_behind(measured: Measured) -> None:
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {measured.key}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 99999999\r\n\r\n"
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", measured.port)) as connection:
            connection.sendall(
                f"{head}Content-Type: application/json\r\nContent-Length: 99999999\r\n\r\n".encode()
            )
            connection.sendall(b"[" + b" " * MIB)
    answer = measured.http.post("/v1/jobs", content=b"[" + b" " * MIB, headers=JSON)
    assert answer.json()["field"] == "body"


def test_a_call_that_waits_holds_none_of_its_pictures(measured: Measured) -> None:
    farm = (measured.server.url, measured.folder)
    fake_worker = FakeWorker(*farm)
    picture = base64.b64encode(os.urandom(36 * MIB)).decode()
    body = {"init_images": [picture], "width": 64, "height": 64, "steps": 1}

    def call() -> httpx.Response:
        return measured.http.post("/sdapi/v1/img2img", json=body)

    def jobs() -> int:
        return len(measured.http.get("/v1/jobs").json()["jobs"])

    before, rest = jobs(), measured.resident
    with Callers(fake_worker) as callers:
        waiting = [callers.submit(call) for _ in range(4)]
        eventually("all wait", lambda: jobs() == before + 4)
        eventually("what they brought is let go", lambda: measured.resident < rest + 60 * MIB)
        fake_worker.work()
        assert [each.result().status_code for each in waiting] == [200] * 4
    fake_worker.client.close()
