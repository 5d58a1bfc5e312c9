"""Ledger and tickets at one URL: what it says holds for both, or is refused before anything is written."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from img2img_producer import Farm
from img2img_shared.errors import Refused, Unavailable
from img2img_shared.ledger import Ledger, connect
from img2img_shared.queue import celery_app, top_up
from tests.integration.test_queue import MODEL, WORKER, a_job, spend
from tests.servers import RedisServer, Sentinel, free_port, raw_client

PASSWORD = "p/w?#@:%"  # noqa: S105
ENCODED = "p%2Fw%3F%23%40%3A%25"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer("--requirepass", PASSWORD, has_port=True)
    yield server
    server.remove()


@pytest.fixture(autouse=True)
def _empty(server: RedisServer) -> None:
    with raw_client(f"redis://:{ENCODED}@127.0.0.1:{server.port}") as client:
        client.flushall()


def tickets_come_through(url: str) -> None:
    """A job is written, and its tickets are published and taken."""
    app = celery_app(url)
    with connect(url) as redis, app:
        ledger = Ledger(redis)
        ledger.beat(WORKER)
        ledger.submit(a_job(n=2))
        top_up(app, ledger, MODEL)
        assert ledger.tickets(MODEL) == 2
        assert spend(app) is not None
        assert ledger.tickets(MODEL) == 1


@pytest.mark.parametrize(
    "query",
    [
        "",
        "/3",
        "?db=3",
        "?socket_timeout=3&socket_connect_timeout=4",
        "?health_check_interval=30",
        "?health_check_interval=0",
        "?client_name=farm",
        "?socket_keepalive=false",
    ],
)
def test_each_option_is_the_ledgers_and_celerys(server: RedisServer, query: str) -> None:
    tickets_come_through(f"redis://:{ENCODED}@127.0.0.1:{server.port}{query}")


@pytest.mark.parametrize(
    "url",
    [
        f"redis://127.0.0.1:{{port}}/0?password={ENCODED}",
        f"redis://default:{ENCODED}@127.0.0.1:{{port}}",
        f"unix://:{ENCODED}@{{folder}}/redis.sock?db=2",
        f"unix://{{folder}}/redis.sock?db=2&password={ENCODED}&username=default",
    ],
)
def test_a_password_may_stand_wherever_redis_py_takes_one(server: RedisServer, url: str) -> None:
    tickets_come_through(url.format(port=server.port, folder=server.folder))


def test_the_connections_are_named_as_the_url_says(server: RedisServer) -> None:
    url = f"redis://:{ENCODED}@127.0.0.1:{server.port}?client_name=farm"
    app = celery_app(url)
    with connect(url) as redis, app, app.connection_for_write() as connection:
        connection.default_channel.client.ping()
        lines = str(redis.call("CLIENT", "LIST"), "utf-8").splitlines()
    assert len([line for line in lines if "name=farm" in line.split()]) >= 2


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://:{wrong}@127.0.0.1:{port}", "invalid username-password pair"),
        ("redis://127.0.0.1:{port}", r"it asks for a password: give it in the URL, redis://:PASSWORD@HOST"),
    ],
)
def test_who_is_not_let_in_is_told_so(server: RedisServer, url: str, told: str) -> None:
    with pytest.raises(Unavailable, match=f"does not let us in: {told}") as raised:
        connect(url.format(wrong="SECRET", port=server.port))
    assert "SECRET" not in str(raised.value)


def test_a_database_that_is_not_there_is_refused(server: RedisServer, tmp_path: Path) -> None:
    url = f"redis://:{ENCODED}@127.0.0.1:{server.port}/99"
    with pytest.raises(Refused, match=r"^redis_url is .*:\d+/99': .*out of range"):
        Farm(url, tmp_path)


def test_a_cluster_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    # its nodes' port would be its clients' and 10,000, which may be beyond 65,535
    nodes = ("--cluster-port", str(free_port()))
    cluster = RedisServer("--cluster-enabled", "yes", *nodes, has_port=True)
    try:
        for url in (f"redis://127.0.0.1:{cluster.port}", cluster.url):
            with pytest.raises(Refused, match="a cluster, which Celery cannot use"):
                Farm(url, tmp_path)
    finally:
        cluster.remove()


def test_a_sentinel_is_told_from_the_server_that_it_watches(server: RedisServer, tmp_path: Path) -> None:
    sentinel = Sentinel(server.port, quorum=1)
    try:
        with pytest.raises(Refused, match=r"a sentinel answers there; give sentinel://"):
            Farm(f"redis://127.0.0.1:{sentinel.port}", tmp_path)
    finally:
        sentinel.remove()


def test_a_replica_is_no_place_for_a_farm(server: RedisServer) -> None:
    replica = RedisServer("--replicaof", "127.0.0.1", str(server.port), "--masterauth", PASSWORD)
    try:
        with pytest.raises(Unavailable, match="takes no writes: it is a replica"):
            connect(replica.url)
    finally:
        replica.remove()
