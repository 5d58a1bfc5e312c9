"""Workers agree through the ledger on who loads which model."""

import threading
from typing import Any

import pytest

from img2img_shared.ledger import Ledger
from img2img_shared.placement import Position
from img2img_shared.records import WorkerInfo, WorkerReport
from tests.integration.ledger_helpers import FARM, a_job

MODELS = ("rare", "common", "third")


@pytest.fixture
def workers(ledger: Ledger) -> list[WorkerInfo]:
    """Eight that can load any model and have "common" loaded, for which nothing waits."""
    others = {name: f"{name}.safetensors" for name in MODELS if name != "common"}
    found = [WorkerInfo(id=f"w{n}", model="common", device="none", slots=4, others=others) for n in range(8)]
    for each in found:
        ledger.beat(each)
    return found


def ask(ledger: Ledger, worker: WorkerInfo) -> str | None:
    """What a worker decides to load, if nobody else has decided so before."""
    placement = ledger.placement()
    to = placement.next_model(Position(model=worker.model, models=worker.models))
    return to if to and ledger.move(worker.id, worker.model, to, placement) else None


def test_of_workers_that_ask_at_once_one_loads_a_model_for_three_images(
    ledger: Ledger, workers: list[WorkerInfo]
) -> None:
    ledger.submit(a_job(n=3, model="rare"))
    moved: list[str | None] = []
    start = threading.Barrier(len(workers))

    def work(worker: WorkerInfo) -> None:
        start.wait()
        moved.append(ask(ledger, worker))

    threads = [threading.Thread(target=work, args=[each]) for each in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(filter(None, moved)) == ["rare"]
    assert ledger.placement().demands["rare"].workers == 1


def test_who_dies_while_it_loads_is_not_waited_for_longer_than_half_a_lease(
    ledger: Ledger, workers: list[WorkerInfo], raw: Any
) -> None:
    ledger.submit(a_job(n=3, model="rare"))
    assert ask(ledger, workers[0]) == "rare"
    expires = raw.pexpiretime(f"{FARM}:model:loaded:rare") - 1000 * float(raw.time()[0])
    assert 0 < expires <= 1000 * (ledger.lease / 2 + 1)
    raw.zadd(f"{FARM}:model:loaded:rare", {"w0": 1})  # so long
    raw.delete(f"{FARM}:board")
    assert ask(ledger, workers[1]) == "rare"


def test_a_worker_that_claims_nothing_does_not_count(ledger: Ledger, workers: list[WorkerInfo]) -> None:
    for each in workers[:7]:
        ledger.beat(each, WorkerReport(trouble="the store is full"))
    assert ledger.placement().demands["common"].workers == 1


def test_what_a_load_took_is_known_to_all(ledger: Ledger, workers: list[WorkerInfo]) -> None:
    ledger.measured("rare", load=12.5)
    ledger.measured("rare", image=0.25)
    ledger.submit(a_job(n=4, model="rare"))
    rare = ledger.placement().demands["rare"]
    assert (rare.load_seconds, rare.image_seconds, rare.work()) == (12.5, 0.25, 1.0)
    assert ledger.placement().demands["common"].load_seconds is None


def test_all_models_of_a_worker_are_served_until_it_leaves(ledger: Ledger, workers: list[WorkerInfo]) -> None:
    assert ledger.served() == sorted(MODELS)
    assert ledger.missing_tickets("third", 10) == 0
    ledger.submit(a_job(n=4, model="third"))
    assert ledger.missing_tickets("third", 10) == 4
    for each in workers:
        ledger.leave(each.id)
    assert ledger.served() == []
    assert ledger.workers() == []


def test_a_model_that_nobody_has_loaded_lacks_a_janitor(
    ledger: Ledger, workers: list[WorkerInfo], raw: Any
) -> None:
    ledger.take_back("common", "w0")
    demands = ledger.placement().demands
    assert {name: demands[name].has_janitor for name in MODELS} == {
        "common": True,
        "rare": False,
        "third": False,
    }


def test_an_image_whose_backoff_is_over_waits_though_nobody_claims_of_its_model(
    ledger: Ledger, workers: list[WorkerInfo], raw: Any
) -> None:
    ledger.submit(a_job(n=1, model="rare"))
    claim = ledger.claim("rare", "w0", "nonce", idle=True)
    assert claim is not None
    ledger.release(claim, 1000.0)
    assert ledger.placement().demands["rare"].priority is None
    for member in raw.zrange(f"{FARM}:model:delayed:rare", 0, -1):
        raw.zadd(f"{FARM}:model:delayed:rare", {member: 0})
    raw.delete(f"{FARM}:board")
    assert ask(ledger, workers[0]) == "rare"


def test_who_was_running_empty_for_a_suspect_is_free_when_it_moves(
    ledger: Ledger, workers: list[WorkerInfo], raw: Any
) -> None:
    first = workers[0]
    raw.set(f"{FARM}:model:reserved:common", first.id)
    raw.set(f"{FARM}:worker:{first.id}:reserved", "common")
    ledger.submit(a_job(n=1, model="rare"))
    assert ask(ledger, first) == "rare"
    assert raw.get(f"{FARM}:model:reserved:common") is None
    assert raw.get(f"{FARM}:worker:{first.id}:reserved") is None


def test_the_first_of_very_many_tenants_is_among_those_that_are_told(
    ledger: Ledger, workers: list[WorkerInfo]
) -> None:
    for number in range(200):
        ledger.submit(a_job(f"job-{number:04}", 10, model="rare", tenant=f"t{number}"))
    ledger.submit(a_job("job-urgent", 10, model="rare", tenant="t7", priority=9))
    rare = ledger.placement().demands["rare"]
    assert rare.priority == 9
    assert len(rare.waiting) == 64
    assert rare.work() == pytest.approx(2010, rel=0.05)


def test_what_waited_before_an_upgrade_counts(ledger: Ledger, workers: list[WorkerInfo], raw: Any) -> None:
    ledger.submit(a_job(n=5, model="rare"))
    raw.delete(f"{FARM}:model:waits:rare")
    assert ledger.placement().demands["rare"].work() == 5
    claim = ledger.claim("rare", "w0", "nonce", idle=True)
    assert claim is not None
    raw.delete(f"{FARM}:board")
    assert ledger.placement().demands["rare"].work() == 4


def test_a_model_that_kills_who_loads_it_is_left_alone_after_two_deaths(
    ledger: Ledger, workers: list[WorkerInfo], raw: Any
) -> None:
    ledger.submit(a_job(n=3, model="rare"))
    for victim in workers[:2]:
        assert ask(ledger, victim) == "rare"
        raw.zadd(f"{FARM}:model:loaded:rare", {victim.id: 1})
        raw.zincrby(f"{FARM}:model:loading:rare", -61_000, victim.id)  # a minute ago
        raw.delete(f"{FARM}:worker:{victim.id}", f"{FARM}:board")
    assert ledger.placement().demands["rare"].deaths == ledger.deaths("rare") == 2
    assert ledger.deaths("other") == 0
    assert ask(ledger, workers[2]) is None
    ledger.load_ended(workers[0].id, "rare")  # it was only slow
    raw.delete(f"{FARM}:board")
    assert ask(ledger, workers[2]) == "rare"
