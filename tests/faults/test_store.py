"""A store that refuses, is slow, breaks off, is full, or no longer knows us: real S3, on a bad network."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from img2img_shared.errors import StoreError
from img2img_shared.store import Store
from tests.checkpoints import cached, sd1
from tests.eventually import eventually
from tests.faults.conftest import Account
from tests.faults.farm import FaultyFarm, ForkServer, picture
from tests.faults.proxy import ERRORS, FaultyStore
from tests.integration.gateway import Gateway
from tests.s3 import S3Server


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """moto's server."""
    server = S3Server()
    yield server
    server.remove()


@pytest.fixture
def bad_network(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    """A faulty way to it, that the environment names as the endpoint."""
    with FaultyStore(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        yield proxy


@pytest.fixture
def s3_farm(
    tmp_path: Path,
    fork_server: ForkServer,
    tmp_path_factory: pytest.TempPathFactory,
    s3: S3Server,
    bad_network: FaultyStore,
) -> Iterator[FaultyFarm]:
    """A farm whose store is behind the bad network."""
    url = f"s3://{s3.make_bucket()}"
    with FaultyFarm(tmp_path, fork_server, cached(tmp_path_factory, sd1), store_url=url) as farm:
        yield farm


@pytest.mark.parametrize(
    "fault",
    [
        *("refuses", "is broken", "is full", "is slow", "breaks off in the middle", "is in conflict"),
        "has waited in vain",
    ],
)
def test_a_fault_that_passes_costs_time_only(
    s3_farm: FaultyFarm, bad_network: FaultyStore, account: Account, fault: str
) -> None:
    job = s3_farm.submit(5)
    bad_network.fault = fault
    s3_farm.worker(environment=_aws())
    account.fault()
    eventually("it is met", lambda: bad_network.met >= 4)
    assert not s3_farm.reasons(job)
    bad_network.fault = None
    account.settle(s3_farm, f"the store {fault}", job)


@pytest.mark.parametrize("fault", ["has expired credentials", "is full"])
def test_images_wait_for_a_store_that_stays_away_and_the_job_says_so(
    s3_farm: FaultyFarm, bad_network: FaultyStore, account: Account, fault: str
) -> None:
    job = s3_farm.submit(3)
    bad_network.fault = fault
    worker = s3_farm.worker(environment=_aws())
    eventually("it serves", s3_farm.producer.workers)
    waits_for = eventually("the job says what it waits for", lambda: s3_farm.status(job).waits_for)
    assert ERRORS[fault][1] in waits_for
    assert s3_farm.store_url not in waits_for
    assert ERRORS[fault][1] in s3_farm.command_line("status", job).stdout
    assert "claims nothing for now: the store cannot" in s3_farm.command_line("workers").stdout
    assert "claims nothing more for now" in worker.log.read_text()
    account.fault()
    bad_network.fault = None
    account.settle(s3_farm, f"the store {fault} until it has not", job)
    assert s3_farm.status(job).waits_for is None
    assert "claims again" in worker.log.read_text()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("has expired credentials", "the credentials have expired"),
        ("has another clock", "the clocks of the store and of this machine differ"),
        ("lets nobody in", "403 Forbidden (AccessDenied)"),
    ],
)
def test_a_submit_may_be_repeated_when_clock_and_credentials_are_mended_and_the_log_says_so(
    s3_farm: FaultyFarm, bad_network: FaultyStore, caplog: pytest.LogCaptureFixture, fault: str, told: str
) -> None:
    form = {"model": "m", "width": "64", "height": "64"}
    with Gateway(s3_farm.server.url, s3_farm.store_url) as gateway:

        def submitted() -> httpx.Response:
            return gateway.http.post("/v1/jobs/upload", data=form, files={"image": ("a.png", picture(0))})

        bad_network.fault = fault
        answer = submitted()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert told in answer.json()["detail"]
        assert "POST /v1/jobs/upload cannot be answered: cannot " in caplog.text
        assert told in caplog.text
        bad_network.fault = None
        assert submitted().status_code == 201


def test_an_answer_that_was_cut_short_is_not_taken_for_an_object(
    s3: S3Server, bad_network: FaultyStore
) -> None:
    store = Store(f"s3://{s3.make_bucket()}")
    picture = store.put_picture("default", b"a picture")
    store.put("jobs/job-0000/0.png", b"a result")
    for get, key in ((store.get, "jobs/job-0000/0.png"), (store.get_picture, picture)):
        bad_network.met, bad_network.fault = 0, "cuts one answer short"
        assert get(key) in (b"a result", b"a picture")
        assert bad_network.met == 1
        bad_network.fault = "cuts answers short"
        with pytest.raises(StoreError, match="it is damaged"):
            get(key)


def test_a_lost_or_damaged_input_fails_its_image_alone_until_it_is_uploaded_again(
    farm: FaultyFarm, account: Account
) -> None:
    job = farm.submit(4)
    lost, damaged = sorted((farm.folder / "store" / "inputs" / "default").iterdir())[:2]
    lost.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    account.fault()
    farm.worker()
    account.settle(farm, "an input deleted from the store, another damaged", job, failed=2)
    reasons = farm.reasons(job).values()
    assert all(any(said in reason for reason in reasons) for said in ("no such object", "is damaged"))
    farm.producer.cancel(farm.submit(4))  # of the same pictures
    farm.producer.retry(job)
    account.settle(farm, "... uploaded again and retried", job)


def _aws() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def test_a_conflict_is_worth_a_retry_and_does_not_say_that_an_object_is_there(
    s3: S3Server, bad_network: FaultyStore
) -> None:
    store = Store(f"s3://{s3.make_bucket()}")
    bad_network.fault = "is in conflict"
    calls: list[Callable[[], object]] = [
        lambda: store.create("one", b"1"),
        lambda: store.put("one", b"1"),
        lambda: store.get("one"),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="409 Conflict") as caught:
            call()
        assert caught.value.transient
    bad_network.fault = None
    assert store.create("one", b"1")
    assert not store.create("one", b"2")
