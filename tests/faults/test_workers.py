"""Workers that are killed, frozen and stopped, at each point of an image's way."""

import pytest

from tests.faults.conftest import Account
from tests.faults.farm import FaultyFarm, Worker, eventually, picture
from tests.faults.sabotage import PHASES


@pytest.mark.parametrize("phase", PHASES)
def test_a_worker_killed_anywhere_costs_no_image(farm: FaultyFarm, account: Account, phase: str) -> None:
    job = farm.submit(8)
    victim = farm.worker(arm={"phase": phase, "blow": "KILL", "after": 3})
    eventually(f"the worker dies {phase}", lambda: farm.struck() and not victim.alive)
    account.fault()
    farm.worker()
    account.settle(farm, f"SIGKILL {phase}", job)


@pytest.mark.parametrize("phase", ["in the model", "between the write and the report"])
def test_a_worker_frozen_beyond_its_lease_reports_in_vain(
    farm: FaultyFarm, account: Account, phase: str
) -> None:
    job = farm.submit(6)
    frozen = farm.worker(arm={"phase": phase, "blow": "STOP", "after": 3})
    eventually("it freezes", lambda: farm.struck() and frozen.stopped)
    account.fault()
    farm.worker()
    farm.done(job)
    before = farm.pictures(job)
    frozen.signal("CONT")
    eventually(
        "it wakes and hears that it was late", lambda: "another attempt has it" in frozen.log.read_text()
    )
    account.settle(farm, f"SIGSTOP {phase}, then SIGCONT", job)
    assert farm.pictures(job) == before


def test_a_poison_image_fails_and_its_neighbours_are_rendered(farm: FaultyFarm, account: Account) -> None:
    inputs = [picture(number) for number in range(6)]
    inputs[2] = picture(2, size=72)
    account.fault()
    job = farm.producer.submit(inputs, model=farm.model, steps=3, width=64, height=64)
    deaths = 0
    while not farm.status(job).finished:
        worker = farm.worker(poison=72)
        _dies_or_ends(farm, worker, job)
        deaths += not worker.alive
    account.settle(farm, "an image that kills its worker each time", job, failed=1)
    assert deaths == 3
    assert "3 workers died" in farm.reasons(job)[2]


def _dies_or_ends(farm: FaultyFarm, worker: Worker, job: str) -> None:
    eventually("it dies or the job ends", lambda: not worker.alive or farm.status(job).finished)


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_a_worker_told_to_stop_puts_its_images_back(farm: FaultyFarm, account: Account, name: str) -> None:
    job = farm.submit(6, steps=60)
    first = farm.worker()
    eventually("it renders", lambda: farm.status(job).running == 2 or farm.status(job).done)
    first.signal(name)
    account.fault()
    eventually("it ends", lambda: not first.alive)
    assert farm.status(job).running == 0
    farm.worker()
    account.settle(farm, f"SIG{name}", job)
