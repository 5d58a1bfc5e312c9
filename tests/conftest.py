"""Servers that the tests share: real ones, started once and emptied for each test."""

from collections.abc import Iterator

import pytest
import redis

from img2img_shared.connect import connect
from tests.servers import RedisServer


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The unix:// URL of this test run's own Redis."""
    server = RedisServer()
    yield server.url
    server.remove()


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


@pytest.fixture
def mortal_redis() -> Iterator[RedisServer]:
    """A Redis of this test alone, which it may stop and start again."""
    server = RedisServer()
    yield server
    server.remove()
