"""Workers of several models, of which one dies in the middle of an exchange."""

import shutil
import signal

from tests.eventually import eventually
from tests.faults.conftest import Account
from tests.faults.farm import FaultyFarm


def test_who_dies_while_it_loads_a_model_leaves_it_to_another(farm: FaultyFarm, account: Account) -> None:
    other = farm.folder / "other"
    shutil.copytree(farm.model, other)
    with (other / "model_index.json").open("a") as index:
        index.write("\n")
    marker = farm.folder / "died"
    fault = {"name": "/other", "marker": str(marker)}
    victim = farm.worker(options=("--model", str(other)), dying_load=fault)
    first = farm.submit(4)
    farm.done(first)
    second = farm.submit(4, model=str(other))
    eventually("it dies", lambda: marker.exists() and not victim.alive)
    account.fault()
    beside = farm.worker(options=("--model", str(other)), dying_load=fault)
    third = farm.submit(2)
    account.settle(farm, "SIGKILL while a model is loaded", first, second, third)
    assert victim.exit_status == -signal.SIGKILL
    assert beside.alive
    (worker,) = farm.producer.workers()
    assert sorted(worker.info.models) == sorted((farm.model, str(other)))
