"""Workers that are killed, frozen and stopped, at each point of an image's way."""

import io
import shutil
import signal
from typing import Any

import pytest
from PIL import Image

from img2img_producer import Picture
from img2img_shared.job import ImageState
from img2img_shared.records import Event
from img2img_worker.farm.broken import BROKEN
from img2img_worker.farm.celery_worker import n_threads
from img2img_worker.farm.tiles_recipe import MOST_TILES_OF_ONE
from tests.eventually import eventually
from tests.faults.conftest import Account
from tests.faults.farm import FaultyFarm, Worker, picture
from tests.faults.fault_injection import PHASES


@pytest.mark.parametrize("phase", PHASES)
def test_what_a_killed_worker_had_runs_again_on_the_one_beside_it(
    farm: FaultyFarm, account: Account, phase: str
) -> None:
    beside = farm.worker()
    victim = farm.worker(arm={"phase": phase, "blow": "KILL", "after": 3})
    eventually("both serve", lambda: len(farm.producer.workers()) == 2)
    job = farm.submit(12, steps=8)
    eventually(f"the worker dies {phase}", lambda: farm.struck() and not victim.alive)
    died = now(farm)
    account.fault()
    farm.done(job)
    again = [
        event
        for event in farm.events(job)
        if event.state == ImageState.RUNNING and event.attempt == 2 and moment_of(event) >= died
    ]
    waited = max([0.0, *(moment_of(event) - died for event in again)])
    account.settle(farm, f"SIGKILL {phase}", job, seconds=waited)
    assert victim.exit_status == -signal.SIGKILL
    assert beside.alive
    if phase != "between taking a ticket and claiming":
        assert again


def test_what_all_workers_had_when_they_were_killed_runs_on_a_later_one(
    farm: FaultyFarm, account: Account
) -> None:
    job = farm.submit(8)
    victim = farm.worker(arm={"phase": "in the model", "blow": "KILL", "after": 3})
    eventually("the worker dies", lambda: farm.struck() and not victim.alive)
    account.fault()
    farm.worker()
    account.settle(farm, "SIGKILL of the only worker", job)


UPSCALE = {
    "sd_upscale": True,
    "sd_upscale_upscaler": "Lanczos",
    "sd_upscale_factor": 4,
    "sd_upscale_overlap": 16,
}
OUTPAINT = {"outpaint": "left, right, up, down", "outpaint_pixels": 40}


@pytest.mark.parametrize(
    ("params", "pictures", "size", "text"),
    [
        (UPSCALE, {}, (256, 256), "SD upscale overlap: 16"),
        (UPSCALE, {"mask": picture(1)}, (256, 256), "Mask blur: 4"),
        (OUTPAINT, {}, (192, 192), "Mask blur: 8"),
    ],
    ids=["enlarged", "enlarged under a mask", "grown"],
)
def test_a_killed_worker_costs_a_large_picture_only_the_tiles_that_it_had(
    farm: FaultyFarm,
    params: dict[str, Any],
    pictures: dict[str, bytes],
    size: tuple[int, int],
    text: str,
) -> None:
    given = {"model": farm.model, "steps": 4, "width": 64, "height": 64, **params}
    job = farm.producer.submit([Picture(image=picture(0), pictures=pictures)], **given)
    victim = farm.worker(arm={"phase": "in the model", "blow": "KILL", "after": 18})
    eventually("the worker dies", lambda: farm.struck() and not victim.alive)
    farm.producer.pause(job)  # so that the tiles are there to be looked at when they have ended
    (tiles,) = (each.id for each in farm.producer.jobs() if each.id != job)
    before = farm.status(tiles)
    assert before.n > MOST_TILES_OF_ONE
    assert before.done > 0
    farm.producer.resume(tiles)
    farm.worker()
    assert farm.done(tiles).done == before.n
    again = [attempt for attempt in farm.attempts(tiles) if attempt > 1]
    assert 0 < len(again) <= n_threads(2)
    farm.producer.resume(job)
    farm.done(job)
    (result,) = farm.pictures(job).values()
    with Image.open(io.BytesIO(result)) as finished:
        assert finished.size == size
        assert text in finished.info["parameters"]
    eventually("the tiles are forgotten", lambda: [each.id for each in farm.producer.jobs()] == [job])


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
        worker = farm.worker(poison={"size": 72})
        _dies_or_ends(farm, worker, job)
        deaths += not worker.alive
    account.settle(farm, "an image that kills its worker each time", job, failed=1)
    assert deaths == 3
    assert "3 workers died" in farm.reasons(job)[2]


def _dies_or_ends(farm: FaultyFarm, worker: Worker, job: str) -> None:
    eventually("it dies or the job ends", lambda: not worker.alive or farm.status(job).finished)


def test_a_worker_whose_terminal_is_closed_puts_its_images_back_and_ends_well(
    farm: FaultyFarm, account: Account
) -> None:
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        pytest.skip("the tests run under nohup, and so would the worker")
    job = farm.submit(6, steps=30)
    first = farm.worker()
    eventually("it renders", lambda: farm.status(job).running >= 2)
    for _ in range(2):  # by the shell, and by the system
        first.signal("HUP")
    account.fault()
    assert first.exit_status == 0
    status = farm.status(job)
    assert (status.running, status.failed) == (0, 0)
    farm.worker()
    account.settle(farm, "its terminal closed", job)


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_a_worker_told_to_stop_puts_its_images_back_and_ends_well(
    farm: FaultyFarm, account: Account, name: str
) -> None:
    job = farm.submit(6, steps=30)
    first = farm.worker()
    eventually("it renders", lambda: farm.status(job).running >= 2)
    first.signal(name)
    account.fault()
    assert first.exit_status == 0
    ended = account.since()
    status = farm.status(job)
    assert (status.running, status.failed) == (0, 0)
    farm.worker()
    account.settle(farm, f"SIG{name}: ended with status 0", job, seconds=ended)


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_a_second_signal_ends_a_worker_at_once(farm: FaultyFarm, account: Account, name: str) -> None:
    job = farm.submit(3)
    marker = farm.folder / "stalled"
    first = farm.worker(stall={"seconds": 600, "marker": str(marker)}, grace={"seconds": 600})
    eventually("it is in a step that does not end", marker.exists)
    first.signal(name)
    # what it had is given back already, while the step goes on
    eventually("its images are put back", lambda: farm.status(job).running == 0)
    assert first.alive
    first.signal(name)
    account.fault()
    assert first.exit_status == 128 + signal.Signals[f"SIG{name}"]
    ended = account.since()
    farm.worker()
    account.settle(farm, f"SIG{name} twice: ended at once", job, seconds=ended)


def test_a_worker_told_to_stop_does_not_wait_for_a_step_that_does_not_end(
    farm: FaultyFarm, account: Account
) -> None:
    job = farm.submit(3)
    marker = farm.folder / "stalled"
    first = farm.worker(stall={"seconds": 600, "marker": str(marker)}, grace={"seconds": 1})
    eventually("it is in a step that does not end", marker.exists)
    first.signal("TERM")
    account.fault()
    assert first.exit_status == 0
    assert "has ended" in first.log.read_text()
    assert farm.producer.workers() == []
    farm.worker()
    account.settle(farm, "SIGTERM in a step that does not end", job)


def test_a_worker_told_to_stop_does_not_wait_for_a_store_that_hangs(
    farm: FaultyFarm, account: Account
) -> None:
    marker = farm.folder / "hangs"
    first = farm.worker(hanging_store={"marker": str(marker)}, grace={"seconds": 5})
    job = farm.submit(3)
    eventually("it hangs", marker.exists)
    first.signal("TERM")
    account.fault()
    eventually("its images are put back", lambda: farm.status(job).running == 0)
    assert first.exit_status == 0
    farm.worker()
    account.settle(farm, "SIGTERM in a store that hangs", job)


def test_an_image_that_breaks_the_device_fails_and_its_neighbours_are_rendered(
    farm: FaultyFarm, account: Account
) -> None:
    account.fault()
    job = farm.submit(4)
    poison = farm.submit(1, width=72)
    breakdowns = 0
    while not (farm.status(job).finished and farm.status(poison).finished):
        worker = farm.worker(broken_device={"width": 72})
        eventually(
            "it ends, or the jobs do",
            lambda: not worker.alive or (farm.status(job).finished and farm.status(poison).finished),  # noqa: B023  # called here
        )
        if not worker.alive:
            breakdowns += 1
            assert worker.exit_status == BROKEN
    account.settle(farm, "an image that breaks the device each time", job)
    account.settle(farm, "... itself", poison, failed=1)
    assert breakdowns == 3
    assert "3 workers died" in farm.reasons(poison)[0]


def now(farm: FaultyFarm) -> float:
    """Seconds, on the ledger's clock."""
    with farm.server.client() as client:
        seconds, micros = client.time()
    return float(seconds + micros / 1e6)


def moment_of(event: Event) -> float:
    """When it happened, in seconds on the ledger's clock."""
    return int(event.id.partition("-")[0]) / 1000


def test_a_second_checkpoint_under_a_models_name_is_refused_until_an_operator_says_otherwise(
    farm: FaultyFarm, account: Account
) -> None:
    def folder(name: str) -> dict[str, str]:
        return {"IMG2IMG_MODELS_DIR": str(farm.folder / name)}

    for name in ("one", "other"):
        shutil.copytree(farm.model, farm.folder / name / "sd15")
    with (farm.folder / "other" / "sd15" / "model_index.json").open("a") as index:
        index.write("\n")
    first = farm.worker(model="sd15", environment=folder("one"))
    eventually("it serves", lambda: farm.producer.workers())
    second = farm.worker(model="sd15", environment=folder("other"))
    assert second.exit_status == 2
    (bound,) = {each.info.sha256 for each in farm.producer.workers()}
    assert f"of SHA-256 {bound}; this one has " in second.log.read_text()

    account.fault()
    third = farm.worker(model="sd15", environment=folder("other"), options=["--rebind"])
    assert first.exit_status == 0
    job = farm.submit(2, model="sd15")
    account.settle(farm, "a model's name bound to another checkpoint", job)
    assert third.alive
    (now,) = {each.info.sha256 for each in farm.producer.workers()}
    assert now != bound


def test_a_worker_is_disabled_enabled_and_drained(farm: FaultyFarm, account: Account) -> None:
    first, second = farm.worker(), farm.worker()
    eventually("both serve", lambda: len(farm.producer.workers()) == 2)
    (name,) = (each.info.id for each in farm.producer.workers() if f"-{first.pid}-" in each.info.id)
    assert f"{name} claims nothing more" in farm.command_line("disable", name).stdout
    eventually("it says so", lambda: "disabled by an operator" in farm.command_line("workers").stdout)
    account.fault()
    job = farm.submit(6)
    farm.done(job)
    assert "first image here" not in first.log.read_text()
    assert "claims again" in farm.command_line("enable", name).stdout
    second.signal("TERM")
    assert second.exit_status == 0
    other = farm.submit(6)
    eventually("the first renders", lambda: farm.status(other).running)
    farm.command_line("drain", name)
    assert first.exit_status == 0
    assert farm.status(other).running == 0
    farm.worker()
    account.settle(farm, "a worker disabled, enabled and drained", job, other)
    assert "no worker 'nobody' lives" in farm.command_line("drain", "nobody").stderr
