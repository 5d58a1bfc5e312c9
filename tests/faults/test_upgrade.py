"""Rolling upgrades: what the released version wrote, and what a newer one writes."""

import shutil
from pathlib import Path

import msgpack
import pytest

from img2img_shared import wire
from img2img_shared.errors import WireError
from img2img_shared.job import JobState
from img2img_shared.wire import VERSION, decode_inputs, decode_job
from tests.eventually import eventually
from tests.faults.conftest import Account
from tests.faults.farm import FaultyFarm
from tests.faults.record import MODEL

#: written by record.py with the first release
RELEASED = Path(__file__).parent / "wire_v1"
JOB, PAUSED = "66242c20ff0934b2", "f968a0fd07bdc06f"


def test_messages_of_the_released_version_are_read_as_they_were_meant() -> None:
    job = decode_job((RELEASED / "job.msgpack").read_bytes())
    assert (job.id, job.model, job.tenant, job.priority, job.n) == (JOB, MODEL, "default", 3, 8)
    assert job.idempotency_key == "released"
    params = job.params
    assert (params.prompt, params.steps, params.denoising_strength) == ("a (cat:1.2)", 3, 0.5)
    assert (params.sampler_name, params.scheduler) == ("DPM++ 2M", "Karras")
    assert (params.width, params.height, params.seed, params.subseed) == (64, 64, 5, 6)
    inputs = decode_inputs((RELEASED / "store/jobs" / JOB / "inputs/000000.msgpack").read_bytes())
    assert [item.name for item in inputs] == [f"picture {number}" for number in range(8)]
    assert inputs[1].params == {"prompt": "rain", "negative_prompt": "sun", "seed": 7}
    assert inputs[1].pictures.keys() == {"image", "mask"}
    assert inputs[0].params == {}
    assert inputs[0].pictures.keys() == {"image"}


def test_a_farm_stopped_in_the_middle_by_the_released_version_goes_on_with_this_one(
    farm: FaultyFarm, account: Account
) -> None:
    shutil.copytree(RELEASED / "store", farm.folder / "store", dirs_exist_ok=True)
    with farm.server.client() as client:
        for command in msgpack.unpackb((RELEASED / "ledger.msgpack").read_bytes()):
            client.execute_command(*command)
    status = farm.status(JOB)
    assert (status.n, status.done, status.failed, status.running, status.pending) == (8, 3, 1, 1, 3)
    assert farm.status(PAUSED).state == JobState.PAUSED
    assert farm.submit(1, idempotency_key="released") == JOB
    models = farm.folder / "models"
    models.mkdir()
    (models / MODEL).symlink_to(farm.model)
    account.fault()
    farm.worker(model=MODEL, environment={"IMG2IMG_MODELS_DIR": str(models)})
    account.settle(farm, "a ledger of the released version, half done", JOB, failed=1)
    assert [image.attempt for image in farm.producer.images(JOB)] == [1, 1, 1, 1, 2, 2, 2, 1]
    assert farm.producer.retry(JOB) == 1
    assert farm.status(PAUSED).done == 0
    farm.producer.resume(PAUSED)
    account.settle(farm, "... its failed images retried, its paused job resumed", JOB, PAUSED)


def test_a_job_of_a_newer_version_is_refused_with_both_versions_and_hurts_nobody(
    farm: FaultyFarm, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = submit_newer(farm, monkeypatch, n=3)
    neighbour = farm.submit(4)
    worker = farm.worker()
    account.fault()
    status = farm.done(newer)
    account.settle(farm, "beside a job of a newer version", neighbour)
    both = f"job: written by version {VERSION + 1}; this one reads {VERSION}"
    assert set(farm.reasons(newer).values()) == {f"5 tries; the last: {both}"}
    assert (status.done, status.failed) == (0, 3)
    assert worker.alive
    with pytest.raises(WireError, match=both):
        farm.producer.job(newer)
    said = farm.command_line("fetch", newer, "--out", str(farm.folder / "out"))
    assert said.returncode == 1
    assert f"img2img: {both}" in said.stderr.splitlines()


def test_a_job_of_a_newer_version_is_left_for_a_newer_worker(
    farm: FaultyFarm, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = submit_newer(farm, monkeypatch, n=4)
    old = farm.worker()
    eventually("the old one puts some back", lambda: max(farm.attempts(newer)) >= 1)
    farm.producer.pause(newer)  # so that the new one's start may take its time
    farm.worker(newer={"version": VERSION + 1})
    eventually("the newer one serves", lambda: len(farm.producer.workers()) == 2)
    account.fault()
    farm.producer.resume(newer)
    status = farm.done(newer)
    monkeypatch.setattr(wire, "VERSION", VERSION + 1)
    account.settle(farm, "a job of a newer version, left for a newer worker", newer)
    assert status.done == 4
    assert old.alive


def submit_newer(farm: FaultyFarm, monkeypatch: pytest.MonkeyPatch, n: int) -> str:
    """A job as a producer of the next version writes it."""
    with monkeypatch.context() as patch:
        patch.setattr(wire, "VERSION", VERSION + 1)
        return farm.submit(n)
