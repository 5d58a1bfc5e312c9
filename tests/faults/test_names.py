"""Names that nobody resolves for a while: of Redis and of the store, for workers, clients and gateways."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.checkpoints import cached, sd1
from tests.eventually import eventually
from tests.faults.conftest import Account
from tests.faults.farm import FaultyFarm, ForkServer
from tests.faults.fault_injection import names
from tests.faults.proxy import FaultyStore
from tests.integration.gateway import Gateway
from tests.s3 import S3Server
from tests.servers import RedisServer, raw_client


@pytest.fixture
def store_url(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """On an S3 server that is known by name, and whose clients look for it at each request."""
    with FaultyStore(s3_server.endpoint) as proxy:
        proxy.fault = "hangs up"
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint.replace("127.0.0.1", "localhost"))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        yield f"s3://{s3_server.make_bucket()}"


@pytest.fixture
def redis_by_port() -> Iterator[RedisServer]:
    server = RedisServer(has_port=True)
    yield server
    server.remove()


def test_names_that_nobody_resolves_for_a_while_cost_time_only(
    tmp_path: Path,
    fork_server: ForkServer,
    tmp_path_factory: pytest.TempPathFactory,
    store_url: str,
    redis_by_port: RedisServer,
    account: Account,
) -> None:
    marker = tmp_path / "forgotten"
    url = f"redis://localhost:{redis_by_port.port}/0"
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    checkpoint = cached(tmp_path_factory, sd1)
    with (
        FaultyFarm(tmp_path, fork_server, checkpoint, store_url=store_url, redis_url=url) as farm,
        Gateway(url, store_url) as gateway,
        ThreadPoolExecutor() as pool,
    ):
        worker = farm.worker(environment=aws, forgotten_names={"marker": str(marker)})
        job = farm.submit(12)
        uploaded = gateway.upload(farm.model)
        eventually("some are done", lambda: farm.status(job).done >= 2)
        account.fault()
        with forgotten(marker, redis_by_port):
            later = pool.submit(farm.submit, 2)
            eventually("the worker misses Redis", lambda: worker.said("Redis does not answer"))
            eventually("the worker misses the store", lambda: worker.said("the server does not answer"))
            answer = gateway.http.get("/v1/jobs")
            assert (answer.status_code, answer.json()["detail"]) == (503, "Redis does not answer")
        account.settle(farm, "names of Redis and store that nobody resolves", job, uploaded, later.result())


@contextmanager
def forgotten(marker: Path, redis: RedisServer) -> Iterator[None]:
    """Nobody, here and in the workers, finds anything by its name, and all must look for Redis again."""
    marker.touch()
    names(are_known=False)
    try:
        with raw_client(redis.url) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        yield
    finally:
        marker.unlink()
        names(are_known=True)
