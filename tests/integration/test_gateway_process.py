"""``img2img gateway`` as a process: it says where it listens, answers, and ends when told, streams or not."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.integration.gateway import FakeWorker, eventually, picture


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(redis_url: str, store: Path, *words: str) -> list[str]:
    start = [sys.executable, "-c", "from img2img_producer.cli import main; main()"]
    return [*start, "--redis-url", redis_url, "--store-url", str(store), "gateway", *words]


@pytest.fixture
def kept() -> Iterator[ExitStack]:
    """What stays open until the gateway has ended."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def port(kept: ExitStack, redis_url: str, tmp_path: Path) -> Iterator[int]:
    """Of a gateway that listens; told to stop, it has ended."""
    port = free_port()
    process = subprocess.Popen(
        command(redis_url, tmp_path / "store", "--port", str(port)), stderr=subprocess.PIPE, text=True
    )

    def answers() -> bool:
        assert process.poll() is None, process.stderr and process.stderr.read()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/internal/ping").status_code == 200
        except httpx.TransportError:
            return False

    eventually("it answers", answers)
    yield port
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert f"http://127.0.0.1:{port}" in said
    assert "Traceback" not in said


def test_it_ends_when_told_even_with_a_stream_open(
    kept: ExitStack, port: int, redis_url: str, tmp_path: Path
) -> None:
    fake_worker = FakeWorker(redis_url, tmp_path / "store")
    files = [("image", ("a.png", picture()))]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        job = http.post("/v1/jobs/upload", data={"model": "m"}, files=files).json()["id"]
    stream = kept.enter_context(socket.create_connection(("127.0.0.1", port)))
    stream.sendall(f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert stream.recv(100).startswith(b"HTTP/1.1 200")
    fake_worker.client.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--host", "0.0.0.0"), "host: '0.0.0.0' is not allowed"),  # noqa: S104
        (("--port", "99999"), "IMG2IMG_PORT: 99999 is not allowed"),
    ],
)
def test_what_it_may_not_is_said_in_a_line(
    redis_url: str, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = subprocess.run(
        command(redis_url, tmp_path / "store", *words), capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
