"""What an acknowledgement promises: where a job is by then, and what becomes of it when servers fail."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from img2img_producer import Farm
from img2img_producer.cli import app as cli
from img2img_shared.errors import NotFound, Refused, Unavailable
from img2img_shared.job import result_key
from img2img_shared.settings import Acknowledge, Settings
from tests.eventually import eventually
from tests.integration.gateway import FakeWorker, picture
from tests.servers import RedisServer, Sentinel, raw_client


def farm_of(server: RedisServer, store: Path, acknowledge: Acknowledge) -> Farm:
    return Farm(settings=Settings(redis_url=server.url, store_url=str(store), acknowledge=acknowledge))


@pytest.fixture
def durable() -> Iterator[RedisServer]:
    """A Redis with an append-only file, which a replica may follow."""
    server = RedisServer("--repl-diskless-sync-delay", "0", append_only=True, has_port=True)
    yield server
    server.remove()


def configure(server: RedisServer, name: str, value: str) -> None:
    with raw_client(server.url) as client:
        client.config_set(name, value)


def submit(farm: Farm, **fields: Any) -> str:
    return farm.submit(picture(), model="m", **fields)


def submit_in_vain(monkeypatch: pytest.MonkeyPatch, farm: Farm, message: str, **fields: Any) -> None:
    """Submit what is not acknowledged, without much patience."""
    with monkeypatch.context() as patches:
        patches.setattr("img2img_shared.ledger.job_records.KEPT_WITHIN", 0.3)
        patches.setattr(farm._service, "_outage", 0.0)
        with pytest.raises(Unavailable, match=message):
            submit(farm, **fields)


def test_with_disk_a_job_is_acknowledged_once_it_is_on_the_disk(
    durable: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(durable, "appendfsync", "no")  # whenever the kernel likes: in vain
    with farm_of(durable, tmp_path, "disk") as farm:
        for _ in range(2):  # the repeat finds the job there, and yet must not be told that all is well
            submit_in_vain(monkeypatch, farm, "the job is not on Redis' disk", idempotency_key="once")
        configure(durable, "appendfsync", "always")
        job = submit(farm, idempotency_key="once")
        assert [status.id for status in farm.jobs()] == [job]


def test_with_replica_a_job_is_acknowledged_once_a_replica_has_it(
    durable: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with farm_of(durable, tmp_path, "replica") as farm:
        submit_in_vain(monkeypatch, farm, "not on a replica of Redis", idempotency_key="once")
        replica = RedisServer("--replicaof", "127.0.0.1", str(durable.port))
        try:
            with raw_client(durable.url) as client:
                eventually("the replica follows", lambda: client.set("any", 1) and client.wait(1, 1000))
            job = submit(farm, idempotency_key="once")
            replica.freeze()
            for _ in range(2):
                submit_in_vain(monkeypatch, farm, "not on a replica of Redis", idempotency_key="twice")
            replica.thaw()
            second = submit(farm)
            durable.kill()
            with raw_client(replica.url) as client:
                client.execute_command("REPLICAOF", "NO", "ONE")
            with farm_of(replica, tmp_path, "memory") as promoted:
                assert {job, second} <= {status.id for status in promoted.jobs()}
                assert submit(promoted, idempotency_key="once") == job
        finally:
            replica.remove()


@pytest.fixture
def followed(durable: RedisServer) -> Iterator[tuple[Sentinel, list[RedisServer]]]:
    """A sentinel, and two replicas that it knows to follow; of none it says soon that it is down."""
    replicas = [RedisServer("--replicaof", "127.0.0.1", str(durable.port), has_port=True) for _ in range(2)]
    with raw_client(durable.url) as client:
        eventually("both follow", lambda: client.set("any", 1) and client.wait(2, 1000) == 2)
    lines = ["sentinel down-after-milliseconds farm 3600000"]
    sentinel = Sentinel(durable.port, quorum=2, lines=lines)  # alone it promotes none
    with raw_client(f"redis://127.0.0.1:{sentinel.port}") as client:
        eventually(
            "it knows both",
            lambda: [each["master-link-status"] for each in client.sentinel_slaves("farm")] == ["ok"] * 2,
        )
    yield sentinel, replicas
    sentinel.remove()
    for replica in replicas:
        replica.remove()


def test_with_sentinels_a_job_is_acknowledged_once_every_replica_has_it_that_may_be_promoted(
    followed: tuple[Sentinel, list[RedisServer]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentinel, (one, other) = followed
    url = f"sentinel://127.0.0.1:{sentinel.port}/0?master_name=farm"
    with Farm(settings=Settings(redis_url=url, store_url=str(tmp_path), acknowledge="replica")) as farm:
        submit(farm)
        one.freeze()  # it is promoted soon: the primary does not know, and goes on with the other
        submit_in_vain(monkeypatch, farm, "not on all 2 replicas of Redis", idempotency_key="once")
        one.thaw()
        submit(farm, idempotency_key="once")
        other.kill()
        with raw_client(f"redis://127.0.0.1:{sentinel.port}") as client:
            client.sentinel_set("farm", "down-after-milliseconds", 2000)
            submit(farm)  # as soon as it is known to be down


def test_what_a_server_cannot_promise_is_refused_at_once(mortal_redis: RedisServer, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"^acknowledge is 'disk': .*appendonly yes$") as refused:
        farm_of(mortal_redis, tmp_path, "disk")
    assert "\n" not in str(refused.value)
    farm_of(mortal_redis, tmp_path, "replica").close()  # which may join later


@pytest.mark.parametrize("sync", ["everysec", "always"])
def test_what_was_acknowledged_outlives_the_servers_death(
    durable: RedisServer, tmp_path: Path, sync: str
) -> None:
    configure(durable, "appendfsync", sync)
    with farm_of(durable, tmp_path, "disk") as farm:
        job = submit(farm)
        durable.kill()
        durable.start()
        assert farm.status(job).pending == 1


def result_of(farm: Farm, job: str) -> bytes:
    return farm._service.store.get(result_key(job, 0, "png"))


def test_an_older_copy_of_redis_knows_no_later_job(durable: RedisServer, tmp_path: Path) -> None:
    files = durable.folder / "appendonlydir"
    with farm_of(durable, tmp_path, "disk") as farm:
        earlier = submit(farm)
        shutil.copytree(files, durable.folder / "copy")
        later = submit(farm, idempotency_key="order")
        worker = FakeWorker(durable.url, tmp_path)
        assert worker.work() == 2
        worker.client.close()
        assert list(farm.orphans()) == []
        durable.stop()
        shutil.rmtree(files)
        (durable.folder / "copy").rename(files)
        durable.start()
        assert farm.status(earlier).pending == 1
        with pytest.raises(NotFound):
            farm.status(later)
        assert submit(farm, idempotency_key="order") != later
        farm._service.janitor.round()
        (orphan,) = farm.orphans()
        assert (orphan.id, orphan.pictures) == (later, 1)
        words = ["--redis-url", durable.url, "--store-url", str(tmp_path), "orphans", "--json"]
        assert json.loads(CliRunner().invoke(cli, words).stdout) == asdict(orphan)
        picture_before = result_of(farm, earlier)
        worker = FakeWorker(durable.url, tmp_path)
        assert worker.work() == 2  # what was rendered since the copy, and the repeat
        worker.client.close()
        assert result_of(farm, earlier) == picture_before
