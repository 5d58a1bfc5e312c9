"""``img2img gateway`` as a process: it says where it listens, answers, and ends when told, streams or not."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import httpx
import pytest

from img2img_gateway.app import create_app
from img2img_gateway.gateway_settings import GatewaySettings
from img2img_gateway.serve import listen
from img2img_shared.errors import Refused
from tests.eventually import eventually
from tests.integration.gateway import PATIENCE, FakeWorker, picture
from tests.processes import ended_unless_ready
from tests.servers import free_port, scraped

#: asks for something large that needs no key
SCRIPT = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
#: a TCP connection's state, as the kernel writes it
ESTABLISHED = "01"


def command(redis_url: str, store: Path, *words: str) -> list[str]:
    start = [sys.executable, "-c", "from img2img_producer.cli import main; main()"]
    return [*start, "--redis-url", redis_url, "--store-url", str(store), "gateway", *words]


class Process:
    """A gateway that listens, told to stop at the end, and what it said until then."""

    def __init__(self, redis_url: str, store: Path, **environment: str) -> None:
        self.port = free_port()
        self._process = subprocess.Popen(
            command(redis_url, store, "--port", str(self.port)),
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        #: connections that stay open until it has ended
        self.kept = ExitStack()
        with ended_unless_ready(self._process):
            eventually("it answers", self.answers)

    def answers(self) -> bool:
        assert self._process.poll() is None, self._process.stderr and self._process.stderr.read()
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """As a power cut would."""
        self._process.kill()
        self._process.communicate()

    def connect(self) -> socket.socket:
        """A connection to it."""
        return self.kept.enter_context(socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.kept, ended_unless_ready(self._process):
            self._process.send_signal(signal.SIGTERM)
            said = self._process.communicate(timeout=PATIENCE)[1]
        assert f"http://127.0.0.1:{self.port}" in said
        assert "Traceback" not in said, said
        assert self._process.returncode == 0


def test_it_ends_when_told_whatever_is_open(redis_url: str, tmp_path: Path) -> None:
    fake_worker = FakeWorker(redis_url, tmp_path / "store")
    files = [("image", ("a.png", picture()))]
    with ExitStack() as kept:
        with Process(redis_url, tmp_path / "store") as process:
            with httpx.Client(base_url=f"http://127.0.0.1:{process.port}", timeout=PATIENCE) as http:
                job = http.post("/v1/jobs/upload", data={"model": "m"}, files=files).json()["id"]
            stream = process.connect()
            stream.sendall(f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert stream.recv(100).startswith(b"HTTP/1.1 200")
            process.connect().sendall(b"GET / HTTP/1.1\r\nHost:")
            begun = process.connect()
            begun.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n[")
            kept.enter_context(process.kept.pop_all())
        assert begun.recv(100).startswith(b"HTTP/1.1 503 ")
    fake_worker.client.close()


def test_it_shows_what_there_is_to_do(redis_url: str, tmp_path: Path) -> None:
    model, address = "metrics", f"127.0.0.1:{free_port()}"
    fake_worker = FakeWorker(redis_url, tmp_path / "store", model)
    with (
        Process(redis_url, tmp_path / "store", IMG2IMG_METRICS=address) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{process.port}", timeout=PATIENCE) as http,
    ):
        files = [("image", ("a.png", picture(number))) for number in range(3)]
        http.post("/v1/jobs/upload", data={"model": model}, files=files).raise_for_status()
        assert http.get("/no/such/path").status_code == 404
        job = http.get("/v1/jobs").json()["jobs"][0]["id"]
        http.get(f"/v1/jobs/{job}").raise_for_status()
        assert fake_worker.claim() is not None
        counts = {"waiting": 2, "later": 0, "running": 1}
        own = [{"model": model, **counts, "images": 3}]
        assert http.get("/v1/demand", params={"model": model}).json() == own
        assert http.get("/v1/demand", params={"model": "none"}).json()[0]["images"] == 0
        assert http.get("/v1/demand", params={"total": "true"}).json() == [{**own[0], "model": ""}]
        assert model in [each["model"] for each in http.get("/v1/demand").json()]
        found = scraped(address)
        for state, count in counts.items():
            assert found["img2img_farm_images", ("model", model), ("state", state)] == count
        assert found["img2img_farm_workers", ("model", model), ("state", "in_service")] == 1
        requests = "img2img_http_requests_total"
        assert found[requests, ("method", "POST"), ("route", "/v1/jobs/upload"), ("status", "201")] == 1
        assert found[requests, ("method", "GET"), ("route", "/v1/jobs/{job}"), ("status", "200")] == 1
        assert found[requests, ("method", "GET"), ("route", "none"), ("status", "404")] == 1
        assert found["img2img_ledger_call_seconds_count", ("call", "submit")] == 1
    fake_worker.client.close()


def test_slow_clients_keep_nobody_out(redis_url: str, tmp_path: Path) -> None:
    limits = {"MAX_CONNECTIONS": "50", "HEADER_TIMEOUT": "1", "UPLOAD_TIMEOUT": "1"}
    limits = {f"IMG2IMG_{name}": value for name, value in limits.items()}
    with Process(redis_url, tmp_path / "store", **limits) as process:
        halves = [process.connect() for _ in range(120)]
        for half in halves:
            half.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
        assert httpx.get(f"http://127.0.0.1:{process.port}/health", timeout=PATIENCE).status_code == 200
        for half in halves:
            assert half.recv(100) == b""
        stalled = process.kept.enter_context(socket.socket())
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(("127.0.0.1", process.port))
        stalled.sendall(SCRIPT)
        _, port = stalled.getsockname()
        eventually("its connection is there", lambda: is_served(process.port, port))
        eventually("it is cut off", lambda: not is_served(process.port, port))


def is_served(port: int, client: int) -> bool:
    """Whether the gateway's end of a connection is open. The client is not told where it takes nothing."""
    ends = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [f"0100007F:{port:04X}", f"0100007F:{client:04X}", ESTABLISHED] in ends


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = GatewaySettings(port=port)
        with pytest.raises(Refused, match=f"port is {port}: give a port that is free"):
            asyncio.run(listen(create_app(settings), settings, asyncio.Event()))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--host", "0.0.0.0"), "host is '0.0.0.0': "),  # noqa: S104
        (("--port", "99999"), "IMG2IMG_PORT is 99999: give "),
    ],
)
def test_what_it_may_not_is_said_in_a_line(
    redis_url: str, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = subprocess.run(
        command(redis_url, tmp_path / "store", *words), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
