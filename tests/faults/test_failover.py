"""Another server becomes the primary while a farm works."""

import asyncio
from pathlib import Path

import pytest

from img2img_shared.job import JobState
from img2img_shared.ledger import Ledger, connect
from img2img_shared.ledger.event_tail import EventTail
from img2img_shared.records import Event
from tests.checkpoints import cached, sd1
from tests.eventually import eventually
from tests.faults.conftest import Account
from tests.faults.failover import OneAddress, ThreeSentinels
from tests.faults.farm import FaultyFarm, ForkServer
from tests.integration.gateway import Gateway
from tests.integration.ledger_helpers import a_job


@pytest.fixture
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached(tmp_path_factory, sd1)


def test_connections_to_what_has_become_a_replica_are_left(
    tmp_path: Path, fork_server: ForkServer, checkpoint: Path, account: Account
) -> None:
    with OneAddress() as redis, FaultyFarm(tmp_path, fork_server, checkpoint, redis_url=redis.url) as farm:
        farm.worker()
        job = farm.submit(10)
        with Gateway(redis.url, Path(farm.store_url)) as gateway:
            eventually("some are done", lambda: farm.status(job).done >= 2)
            assert all(gateway.upload(farm.model) for _ in range(3))
            account.fault()
            redis.promote()
            later = [farm.submit(2), gateway.upload(farm.model)]
            events = gateway.http.get(f"/v1/jobs/{later[-1]}/events")  # until it has ended
        assert '"done"' in events.text
        account.settle(farm, "a replica promoted behind one address", job, *later)


def test_no_reader_is_answered_by_what_was_the_primary() -> None:
    with OneAddress() as redis, connect(redis.url) as one, connect(redis.url) as other:
        reader = Ledger(one)  # its only connection is to the first primary
        assert other.call("GET", "word") is None
        seen = asyncio.run(_events_across(redis, reader))
        assert reader.status("job-later", "default").n == 3
        assert other.call("GET", "word") == b"new"
    assert {event.job_state for event in seen} == {JobState.CANCELLED}


async def _events_across(redis: OneAddress, reader: Ledger) -> list[Event]:
    """Of a job that is cancelled after the promotion, by a connection from before it."""
    reader.submit(a_job("job-early"))
    tail = EventTail(redis.url, "img2img")
    try:
        last = await tail.newest("job-early")
        redis.promote(is_followed=False)
        with connect(redis.url) as new:
            Ledger(new).cancel("job-early", "default")
            Ledger(new).submit(a_job("job-later"))
            new.call("SET", "word", "new")
        return (await tail.read({"job-early": last}))["job-early"]
    finally:
        await tail.close()


def test_sentinels_lead_to_the_new_primary(
    tmp_path: Path, fork_server: ForkServer, checkpoint: Path, account: Account
) -> None:
    with (
        ThreeSentinels() as redis,
        FaultyFarm(tmp_path, fork_server, checkpoint, redis_url=redis.url) as farm,
    ):
        farm.worker()
        job = farm.submit(10)
        eventually("some are done", lambda: farm.status(job).done >= 2)
        account.fault()
        redis.kill_primary()
        later = farm.submit(2)
        account.settle(farm, "the primary killed, of three sentinels", job, later)
