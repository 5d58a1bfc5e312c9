"""Servers that the tests share: real ones, started once and emptied for each test."""

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest
import redis

from img2img_shared.ledger import FarmRedis, connect
from tests.reaper import watch_over_this_process
from tests.s3 import S3Server
from tests.servers import RedisServer, raw_client

# Set before torch is loaded, here and in every process that a test starts: the networks are too small for
# threads to help. In the few tests with two, threads must not spin while they wait for each other, which
# would take a minute instead of a second beside another busy process.
os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

watch_over_this_process()

# A slow machine must not fail a test.
hypothesis.settings.register_profile(
    "farm", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("farm")

# A shell without job control starts background processes with SIGINT ignored; the programs whose Ctrl-C is
# tested would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The unix:// URL of this test run's own Redis."""
    server = RedisServer()
    yield server.url
    server.remove()


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The unix:// URL of an empty, real Redis."""
    with raw_client(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture(name="redis")
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of an empty, real Redis."""
    with raw_client(redis_url) as client:
        yield client


@pytest.fixture
def farm_redis(redis_url: str) -> Iterator[FarmRedis]:
    """The same Redis as the farm's own code sees it."""
    with connect(redis_url) as farm_redis:
        yield farm_redis


@pytest.fixture
def mortal_redis() -> Iterator[RedisServer]:
    """A Redis of this test alone, which it may stop and start again."""
    server = RedisServer()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """This test run's own S3 server."""
    server = S3Server()
    yield server
    server.remove()


@pytest.fixture
def s3_url(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The s3:// URL of an empty folder on a real S3 server, which the environment names as a user's would."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return f"s3://{s3_server.make_bucket()}/farm/one"
