"""Another server becomes the primary while a farm works."""

from pathlib import Path

import pytest

from tests.checkpoints import cached, sd1
from tests.faults.conftest import Account
from tests.faults.failover import OneAddress, ThreeSentinels
from tests.faults.farm import FaultyFarm, ForkServer, eventually


@pytest.fixture
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached(tmp_path_factory, sd1)


def test_connections_to_what_has_become_a_replica_are_left(
    tmp_path: Path, fork_server: ForkServer, checkpoint: Path, account: Account
) -> None:
    with OneAddress() as redis, FaultyFarm(tmp_path, fork_server, checkpoint, redis_url=redis.url) as farm:
        farm.worker()
        job = farm.submit(10)
        eventually("some are done", lambda: farm.status(job).done >= 2)
        account.fault()
        redis.promote()
        later = farm.submit(2)
        account.settle(farm, "a replica promoted behind one address", job, later)


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
