"""Redis that is killed, away, cut off, slow and full."""

import os
import signal
import time

import pytest

from img2img_shared.errors import Unavailable
from img2img_shared.job import Job, inputs_key
from img2img_shared.params import Params
from tests.eventually import eventually
from tests.faults.conftest import Account
from tests.faults.farm import LEASE, FaultyFarm
from tests.submits import after_pages


def rendering(farm: FaultyFarm, job: str) -> bool:
    """Whether some of the job is done and some is not."""
    return farm.status(job).done >= 2


def test_redis_killed_and_started_again_costs_no_image(farm: FaultyFarm, account: Account) -> None:
    job = farm.submit(10)
    farm.worker()
    eventually("some are done", lambda: rendering(farm, job))
    account.fault()
    farm.server.kill()
    farm.server.start()
    account.settle(farm, "Redis killed and started again", job)


def test_redis_away_for_longer_than_a_lease_costs_no_image(farm: FaultyFarm, account: Account) -> None:
    job = farm.submit(10)
    farm.worker()
    eventually("some are done", lambda: rendering(farm, job))
    account.fault()
    farm.server.kill()
    time.sleep(2 * LEASE)  # the fault itself: an outage of this length
    farm.server.start()
    account.settle(farm, "Redis away for two leases", job)


def test_all_connections_cut_again_and_again_costs_no_image(farm: FaultyFarm, account: Account) -> None:
    job = farm.submit(12)
    farm.worker()
    account.fault()
    for done in range(1, 8):
        eventually(f"{done} are done", lambda done=done: farm.status(job).done >= done)  # type: ignore[misc]
        with farm.server.client() as client:
            for kind in ("normal", "pubsub"):
                client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    account.settle(farm, "CLIENT KILL of all, seven times", job)


def test_a_slow_redis_slows_the_farm_and_no_more(farm: FaultyFarm, account: Account) -> None:
    job = farm.submit(8)
    farm.worker()
    eventually("some are done", lambda: rendering(farm, job))
    account.fault()
    with farm.server.client() as client:
        for _ in range(5):
            client.execute_command("CLIENT", "PAUSE", "700", "ALL")
            client.ping()  # answered when the pause is over
    account.settle(farm, "Redis answers after 0.7 s", job)


def test_a_full_redis_refuses_a_submit_and_serves_again_once_it_is_not(
    farm: FaultyFarm, account: Account
) -> None:
    job = farm.submit(8)
    farm.worker()
    eventually("some are done", lambda: rendering(farm, job))
    account.fault()
    with farm.server.client() as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(Unavailable, match="takes no writes"):
            farm.producer._service.ledger.submit(_job(farm))
        client.config_set("maxmemory", 0)
    second = farm.submit(1, idempotency_key="once")
    assert farm.submit(1, idempotency_key="once") == second
    account.settle(farm, "Redis out of memory (noeviction)", job, second)
    assert len(farm.producer.jobs()) == 2


def test_a_submit_while_redis_is_away_says_so_and_may_be_repeated(farm: FaultyFarm, account: Account) -> None:
    farm.worker()
    account.fault()
    farm.server.kill()
    with pytest.raises(Unavailable):
        farm.producer._service.ledger.submit(_job(farm))
    farm.server.start()
    job = eventually("the repeat is taken", lambda: farm.submit(3, idempotency_key="once"))
    assert farm.submit(3, idempotency_key="once") == job
    account.settle(farm, "submit while Redis is away, then again", job)
    assert [status.id for status in farm.producer.jobs()] == [job]


def test_redis_frozen_while_a_job_is_written_costs_no_image(
    farm: FaultyFarm, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.worker()
    first = farm.submit(1)
    account.fault()
    with monkeypatch.context() as patches:
        patches.setattr(farm.producer._service, "_outage", 0.0)
        after_pages(patches, lambda: os.kill(farm.server.pid, signal.SIGSTOP))
        with pytest.raises(Unavailable):
            farm.submit(4, idempotency_key="once")
    os.kill(farm.server.pid, signal.SIGCONT)
    job = farm.submit(4, idempotency_key="once")
    account.settle(farm, "Redis frozen while a job is written, then asked again", first, job)
    assert {status.id for status in farm.producer.jobs()} == {first, job}


def test_a_worker_removes_what_was_never_submitted_and_nothing_else(
    farm: FaultyFarm, account: Account
) -> None:
    service = farm.producer._service
    job = farm.submit(2)
    gone = service.begin(tenant="default", model=farm.model, params=Params())
    service.store.put(inputs_key(gone.job.id, 0), b"a page")
    with farm.server.client() as client:
        for each in (job, gone.job.id):  # the job's is struck out: this is as a restored copy would have it
            client.zadd(f"{{{farm.settings.prefix}}}:submissions", {each: 1})
    account.fault()
    farm.worker()
    eventually("its inputs are removed", lambda: not service.store.exists(inputs_key(gone.job.id, 0)))
    account.settle(farm, "inputs without a job removed beside others", job)


def test_a_redis_that_takes_no_tickets_costs_no_submit(farm: FaultyFarm, account: Account) -> None:
    farm.worker()
    account.fault()
    with farm.server.client() as client:
        client.acl_setuser("default", enabled=True, commands=["-lpush"])
        jobs = [farm.submit(2) for _ in range(3)]
        client.acl_setuser("default", enabled=True, commands=["+lpush"])
    account.settle(farm, "no ticket can be published while jobs are submitted", *jobs)


def _job(farm: FaultyFarm) -> Job:
    return Job(id="never-seen", model=farm.model, params=Params(seed=1, subseed=1), n_inputs=1)


def test_a_redis_that_takes_no_writes_for_a_while_costs_no_worker(farm: FaultyFarm, account: Account) -> None:
    worker = farm.worker()
    job = farm.submit(4)
    eventually("some are done", lambda: rendering(farm, job))
    account.fault()
    with farm.server.client() as client:
        client.config_set("min-replicas-to-write", 1)
        eventually("it hears of it", lambda: worker.said("takes no writes"))
        late = farm.worker()
        eventually("so does one that starts", lambda: late.said("takes no writes"))
        client.config_set("min-replicas-to-write", 0)
    second = farm.submit(4)
    account.settle(farm, "Redis without the replica that it must have", job, second)
    assert worker.alive
    eventually("the late one serves", lambda: len(farm.producer.workers()) == 2)
    assert late.alive


def test_a_job_whose_key_somebody_deletes_stops_no_other(farm: FaultyFarm, account: Account) -> None:
    farm.worker()
    doomed = farm.submit(20)
    eventually("some are done", lambda: rendering(farm, doomed))
    account.fault()
    with farm.server.client() as client:
        assert client.delete(f"{{img2img}}:job:{doomed}") == 1
        others = [farm.submit(3), farm.submit(3, priority=-5)]
        account.settle(farm, "the key of a running job deleted", *others)
        eventually("nothing of it is left", lambda: not client.keys(f"{{img2img}}:job:{doomed}*"))


def test_a_farm_goes_on_after_redis_forgot_everything(farm: FaultyFarm, account: Account) -> None:
    worker = farm.worker()
    farm.submit(20)
    eventually("it renders", lambda: any(each.running for each in farm.producer.workers()))
    account.fault()
    with farm.server.client() as client:
        client.flushall()
    job = farm.submit(4)
    account.settle(farm, "FLUSHALL, then another job", job)
    eventually("the worker is known again", lambda: len(farm.producer.workers()) == 1)
    assert worker.alive
