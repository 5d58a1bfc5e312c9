"""An interrupted job's images end early, by the ledger's word, with what there is of them."""

import threading

import pytest

from img2img_shared.errors import Unavailable
from img2img_shared.job import ImageState, Job
from img2img_shared.ledger import FarmRedis, Ledger
from img2img_shared.params import Params
from img2img_worker.engine.engine import Engine
from img2img_worker.farm.events import Event, Lost, Warned, tell_all
from img2img_worker.farm.health import Check, Health
from img2img_worker.farm.leases import Leases
from img2img_worker.farm.retries import Retries
from tests.loaded_model import loaded_model
from tests.unit.engine_toys import ToyFamily, render

JOB, TENANT, MODEL = "job-0000", "default", "m"
STEPS = 50


@pytest.mark.parametrize("is_told_before_it_begins", [False, True])
def test_an_image_ends_early_with_its_picture(farm_redis: FarmRedis, is_told_before_it_begins: bool) -> None:
    ledger = Ledger(farm_redis)
    ledger.submit(Job(id=JOB, model=MODEL, params=Params(seed=1, subseed=1), n_inputs=2))
    leases = Leases(ledger, tell_all())
    claim = ledger.claim(MODEL, "w", "nonce", idle=True)
    assert claim is not None
    held = leases.hold(claim, loaded_model(None))
    begun, told = threading.Event(), threading.Event()

    def before(*_: object) -> None:
        begun.set()
        assert told.wait(60)

    family = ToyFamily(before=before)
    with Engine(family) as engine:
        if is_told_before_it_begins:
            ledger.interrupt(JOB, TENANT)
            leases.renew()
        future = engine.submit(render(1, steps=STEPS, denoising_strength=1))
        held.stop_with(future.cancel, lambda: engine.end_early(future))
        if not is_told_before_it_begins:
            assert begun.wait(60)
            ledger.interrupt(JOB, TENANT)
            leases.renew()
        told.set()
        assert future.result(60).shape == (64, 64, 3)
        assert engine.counts.image_calls < 5
    assert ledger.finish(claim)
    status = ledger.status(JOB, TENANT)
    assert (status.done, status.cancelled) == (1, 1)
    assert status.finished is not None


def test_a_lost_lease_is_told_once_with_whose_it_is_now(farm_redis: FarmRedis) -> None:
    ledger = Ledger(farm_redis)
    ledger.submit(Job(id=JOB, model=MODEL, params=Params(seed=1, subseed=1), n_inputs=1))
    told: list[Event] = []
    leases = Leases(ledger, told.append)
    claim = ledger.claim(MODEL, "w", "nonce", idle=True)
    assert claim is not None
    held = leases.hold(claim, loaded_model(None))
    ledger.release(claim)
    ledger.claim(MODEL, "another", "another nonce", idle=True)
    for _ in range(2):  # what it does meanwhile may take its time to end
        leases.renew()
    assert held.lost
    assert told == [Lost(claim=claim, cancelled=False, holder="another")]


def test_an_image_that_was_reported_a_moment_ago_is_not_told_as_lost(farm_redis: FarmRedis) -> None:
    ledger = Ledger(farm_redis)
    ledger.submit(Job(id=JOB, model=MODEL, params=Params(seed=1, subseed=1), n_inputs=2))
    told: list[Event] = []
    leases = Leases(ledger, told.append)
    claims = [ledger.claim(MODEL, "w", f"nonce {number}", idle=True) for number in range(2)]
    held = [leases.hold(claim, loaded_model(None)) for claim in claims if claim is not None]
    assert ledger.finish(held[0].claim)
    assert ledger.fail(held[1].claim, "its picture is damaged")
    leases.renew()
    assert told == []
    assert not any(each.lost for each in held)


@pytest.mark.parametrize("state", [ImageState.DONE, ImageState.FAILED])
def test_a_report_whose_answer_was_lost_is_not_told_as_too_late(
    farm_redis: FarmRedis, monkeypatch: pytest.MonkeyPatch, state: ImageState
) -> None:
    ledger = Ledger(farm_redis)
    ledger.submit(Job(id=JOB, model=MODEL, params=Params(seed=1, subseed=1), n_inputs=1))
    told: list[Event] = []
    leases, stopping = Leases(ledger, told.append), threading.Event()
    monkeypatch.setattr(stopping, "wait", lambda _: False)
    fine = Check(lambda: None)
    health = Health(store=fine, rendering=fine, stopping=stopping, longest=1.0, observe=told.append)
    retries = Retries(lease=1.0, leases=leases, health=health, stopping=stopping, observe=told.append)
    claim = ledger.claim(MODEL, "w", "nonce", idle=True)
    assert claim is not None
    held = leases.hold(claim, loaded_model(None))

    def report() -> bool:
        is_heard = ledger.finish(claim) if state is ImageState.DONE else ledger.fail(claim, "damaged")
        if is_heard:
            raise Unavailable("Redis does not answer")
        return is_heard

    assert retries.report(held, report) is state
    assert [type(each) for each in told] == [Warned]


def test_what_comes_into_hand_while_the_worker_ends_is_lost_already(farm_redis: FarmRedis) -> None:
    ledger = Ledger(farm_redis)
    ledger.submit(Job(id=JOB, model=MODEL, params=Params(seed=1, subseed=1), n_inputs=1))
    leases = Leases(ledger, tell_all())
    leases.lose_all()
    claim = ledger.claim(MODEL, "w", "nonce", idle=True)
    assert claim is not None
    assert leases.hold(claim, loaded_model(None)).lost


@pytest.mark.parametrize("is_given_back", [False, True])
def test_who_waits_for_no_claim_in_hand_goes_on_with_the_last(
    farm_redis: FarmRedis, is_given_back: bool
) -> None:
    ledger = Ledger(farm_redis)
    ledger.submit(Job(id=JOB, model=MODEL, params=Params(seed=1, subseed=1), n_inputs=2))
    leases = Leases(ledger, tell_all())
    claims = [ledger.claim(MODEL, "w", f"nonce {number}", idle=True) for number in range(2)]
    first, last = [leases.hold(claim, loaded_model(None)) for claim in claims if claim is not None]
    waiting = threading.Thread(target=leases.wait_for_none, args=(3600.0,), daemon=True)
    waiting.start()
    leases.let_go(first)
    assert len(leases) == 1
    assert waiting.is_alive()
    if is_given_back:
        leases.give_back(last)
    else:
        leases.let_go(last)
    waiting.join(240)
    assert not waiting.is_alive()
