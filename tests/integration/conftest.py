"""One gateway for all tests of a module, with an empty farm for each: to start one takes most of a second."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from img2img_shared.ledger import FarmRedis, Ledger
from img2img_shared.records import Claim
from tests.integration.gateway import FakeWorker, Gateway
from tests.integration.ledger_helpers import MODEL, Take, tick
from tests.servers import raw_client


@pytest.fixture(scope="module")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a module's tests."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def store(store_folder: Path) -> Path:
    """The store, empty but for the marker by which the module's gateway knows it."""
    for each in store_folder.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
    return store_folder


@pytest.fixture(scope="module")
def running_gateway(
    request: pytest.FixtureRequest, redis_server: str, store_folder: Path
) -> Iterator[Gateway]:
    """The module's gateway, with the settings that it calls GATEWAY."""
    with raw_client(redis_server) as client:
        client.flushall()  # keys of another module's gateway would close this one
    with Gateway(redis_server, store_folder, **getattr(request.module, "GATEWAY", {})) as gateway:
        yield gateway


@pytest.fixture
def gateway(running_gateway: Gateway, redis_url: str, store: Path) -> Gateway:
    """A gateway of an empty farm."""
    return running_gateway


@pytest.fixture
def fake_worker(redis_url: str, store: Path) -> Iterator[FakeWorker]:
    """A worker's part on the same farm."""
    fake_worker = FakeWorker(redis_url, store)
    yield fake_worker
    fake_worker.client.close()


@pytest.fixture
def ledger(farm_redis: FarmRedis, redis: Redis) -> Ledger:
    """A ledger with leases of an hour, whose janitor has just run: tests move time by hand."""
    ledger = Ledger(farm_redis, lease=3600.0)
    tick(ledger, redis)
    return ledger


@pytest.fixture
def raw(redis: Redis) -> Any:
    """The ledger's Redis, for what the ledger has no method for."""
    return redis


@pytest.fixture
def nonces() -> Iterator[str]:
    return (f"nonce-{number}" for number in range(10_000))


@pytest.fixture
def take(ledger: Ledger, nonces: Iterator[str]) -> Take:
    def take(worker: str = "w", *, idle: bool = False) -> Claim | None:
        return ledger.claim(MODEL, worker, next(nonces), idle=idle)

    return take
