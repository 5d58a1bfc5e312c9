"""The user's hand on a large job while it runs."""

from tests.eventually import eventually
from tests.faults.conftest import Account
from tests.faults.farm import FaultyFarm

MANY = 10_000


def test_pause_and_resume_hold_from_the_next_claim_on(farm: FaultyFarm, account: Account) -> None:
    job = farm.submit_many(MANY, steps=2)
    farm.worker()
    eventually("some are done", lambda: farm.status(job).done >= 4)
    farm.producer.pause(job)
    eventually("what runs ends", lambda: farm.status(job).running == 0)
    paused_at = farm.status(job).done
    other = farm.submit(3)
    farm.done(other)
    assert farm.status(job).done == paused_at
    account.fault()
    farm.producer.resume(job)
    eventually("it goes on", lambda: farm.status(job).done > paused_at + 4)
    assert farm.producer.cancel(job) > MANY - 1000
    account.settle(farm, "pause and resume in a job of 10,000", other)


def test_cancel_stops_what_runs_between_two_steps(farm: FaultyFarm, account: Account) -> None:
    job = farm.submit_many(MANY, steps=150, denoising_strength=1)
    farm.worker()
    eventually("two run", lambda: farm.status(job).running >= 2)
    account.fault()
    farm.producer.cancel(job)
    after = farm.submit(3)
    eventually("nothing of it runs", lambda: farm.status(job).running == 0)
    status = farm.status(job)
    assert (status.pending, status.done + status.cancelled) == (0, MANY)
    account.settle(farm, "cancel of a job of 10,000", after)
    assert farm.status(job).done == status.done


def test_a_job_of_higher_priority_goes_first_from_the_next_claim_on(
    farm: FaultyFarm, account: Account
) -> None:
    large = farm.submit_many(MANY, steps=2)
    small = farm.submit(4)
    farm.worker()
    eventually("both get their share", lambda: farm.status(large).done >= 1)
    urgent = farm.submit(4, priority=10)
    begun = farm.status(large).done + farm.status(large).running
    account.fault()
    farm.done(urgent)
    # beside what was prepared already, nothing of the large job began before the urgent one was done
    assert farm.status(large).done <= begun + 8
    farm.producer.set_priority(large, -10)
    account.settle(farm, "reprioritise beside a job of 10,000", urgent, small)
    farm.producer.cancel(large)


def test_an_urgent_image_takes_a_slot_of_a_worker_that_is_full(farm: FaultyFarm) -> None:
    slow = farm.submit(8, steps=150, denoising_strength=1)
    farm.worker(slots=2)
    eventually("two are rendered, and two more are in hand", lambda: farm.status(slow).running == 4)
    urgent = farm.submit(1, priority=10)
    farm.done(urgent)
    # had it waited for a thread, or in the engine, four would be
    assert farm.status(slow).done <= 2
    farm.done(slow)
    assert farm.attempts(slow) == [1] * 8
    assert farm.attempts(urgent) == [1]


def test_two_jobs_share_the_farm_fairly(farm: FaultyFarm) -> None:
    first = farm.submit_many(MANY, steps=1)
    second = farm.submit_many(MANY, steps=1)
    farm.worker()
    eventually("forty are done", lambda: farm.status(first).done + farm.status(second).done >= 40)
    assert abs(farm.status(first).done - farm.status(second).done) <= 8
    farm.producer.cancel(first)
    farm.producer.cancel(second)


def test_a_clock_fifteen_seconds_off_means_nothing(farm: FaultyFarm, account: Account) -> None:
    account.fault()
    job = farm.submit(8)
    farm.worker(shift_clock={"seconds": 15})
    farm.worker(shift_clock={"seconds": -15})
    account.settle(farm, "clocks 15 s ahead and behind", job)
    assert farm.attempts(job) == [1] * 8
