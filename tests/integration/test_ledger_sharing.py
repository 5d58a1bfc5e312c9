"""Whose image is next: tenants share a model, then their jobs do, and no image keeps others waiting."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from img2img_shared.errors import Unavailable
from img2img_shared.ledger import Ledger
from img2img_shared.records import Claim, Urgent
from tests.integration.ledger_helpers import FARM, MODEL, Take, a_job, die, due, taken


def test_a_tenant_of_many_jobs_gets_no_more_than_one_of_a_single_job(ledger: Ledger, take: Take) -> None:
    for number in range(99):
        ledger.submit(a_job(f"many-{number:04}", 1000, tenant="many"))
    ledger.submit(a_job("one-only", 1000, tenant="one"))
    given = Counter(taken(take).tenant for _ in range(1000))
    assert given == {"many": 500, "one": 500}


def test_a_tenants_jobs_share_what_it_gets(ledger: Ledger, take: Take) -> None:
    for job, tenant in (("job-aaa1", "a"), ("job-aaa2", "a"), ("job-bbbb", "b")):
        ledger.submit(a_job(job, 100, tenant=tenant))
    given = Counter(taken(take).job_id for _ in range(80))
    assert given == {"job-aaa1": 20, "job-aaa2": 20, "job-bbbb": 40}


@pytest.mark.parametrize("n", [1, 3])
def test_of_jobs_that_had_as_many_the_first_that_was_submitted_is_the_first(
    ledger: Ledger, take: Take, n: int
) -> None:
    """Whatever their ids, which are random: one that sorts late would wait for all that come after it."""
    submitted = [f"job-{name * 4}" for name in "ucamzk"]
    for job in submitted:
        ledger.submit(a_job(job, n))
    ledger.pause("job-cccc", "default")
    ledger.set_priority("job-mmmm", "default", 1)
    ledger.set_priority("job-mmmm", "default", 0)
    ledger.resume("job-cccc", "default")
    assert [taken(take).job_id for _ in range(6 * n)] == submitted * n


@pytest.mark.parametrize("name", ["a", "z"])
def test_who_submits_one_image_after_the_other_gets_half_of_a_shared_model(
    ledger: Ledger, take: Take, name: str
) -> None:
    """Whatever their names, by which equal shares are told apart."""
    ledger.submit(a_job("job-huge", 1000, tenant="m"))
    given: Counter[str] = Counter()
    for number in range(100):
        if not ledger.jobs(name, 1) or ledger.jobs(name, 1)[0].pending == 0:
            ledger.submit(a_job(f"single-{number:04}", 1, tenant=name))
        given[taken(take).tenant] += 1
    assert given == {"m": 50, name: 50}


def test_a_tenant_that_was_away_does_not_catch_up(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job("job-aaaa", 1000, tenant="a"))
    for _ in range(100):
        taken(take)
    ledger.submit(a_job("job-bbbb", 1000, tenant="b"))
    assert Counter(taken(take).tenant for _ in range(20)) == {"a": 10, "b": 10}


def test_nor_does_one_that_had_much_wait_for_the_others_to_catch_up(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job("job-aaaa", 100, tenant="a"))
    for _ in range(100):
        taken(take)
    ledger.submit(a_job("job-bbbb", 1000, tenant="b"))
    ledger.submit(a_job("job-aaab", 1000, tenant="a"))
    assert Counter(taken(take).tenant for _ in range(20)) == {"a": 10, "b": 10}


def test_a_full_worker_may_ask_for_more_urgent_images_only(ledger: Ledger, take: Take) -> None:
    assert ledger.most_urgent(MODEL) is None
    ledger.submit(a_job("job-aaaa", 2, tenant="a"))
    ledger.submit(a_job("job-bbbb", 1, tenant="b", priority=3))
    assert ledger.most_urgent(MODEL) == 3
    assert ledger.claim(MODEL, "w", "nonce-above", idle=False, above=3) is None
    given = ledger.claim(MODEL, "w", "nonce-above", idle=False, above=2)
    assert given is not None
    assert (given.job_id, given.priority) == ("job-bbbb", 3)
    again = ledger.claim(MODEL, "w", "nonce-above", idle=False, above=2)
    assert again == given
    assert again.priority == 3
    assert ledger.claim(MODEL, "w", "nonce-more", idle=False, above=0) is None
    assert ledger.most_urgent(MODEL) == 0
    assert taken(take).priority == 0


class Hearing:
    """What a full worker is told."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._after = "0"

    def next(self, seconds: float = 0.001) -> int | None:
        told = self.told(seconds)
        return None if told is None else told.priority

    def told(self, seconds: float = 0.001) -> Urgent | None:
        told, self._after = self._ledger.hear_urgent(MODEL, self._after, seconds)
        return told


def test_full_workers_are_told_of_what_is_more_urgent_than_all_that_waits(
    raw: Any, ledger: Ledger, take: Take
) -> None:
    hearing = Hearing(ledger)
    ledger.submit(a_job("job-aaaa", 9, priority=1))
    assert hearing.next() is None, "nothing is running: nobody is full"
    ledger.submit(a_job("job-bbbb", 1))
    ledger.submit(a_job("job-cccc", 1, priority=1))
    assert hearing.next() is None, "it waits for its turn"
    ledger.submit(a_job("job-dddd", 1, priority=3))
    assert hearing.next() == 3
    assert hearing.next() is None, "it was told"
    ledger.submit(a_job("job-eeee", 1, priority=3))
    assert hearing.next() is None, "as much waits already"
    ledger.submit(a_job("job-ffff", 1, priority=5))
    assert hearing.next() == 5
    assert 0 < raw.pttl(f"{FARM}:model:urgent:{MODEL}") <= 60_000
    assert [taken(take).priority for _ in range(3)] == [5, 3, 3]


def test_they_are_told_of_what_nothing_else_waits_beside(ledger: Ledger, take: Take) -> None:
    hearing = Hearing(ledger)
    ledger.submit(a_job("job-aaaa", 1))
    taken(take)
    ledger.submit(a_job("job-bbbb", 1, priority=3))
    assert hearing.told() == Urgent(priority=3, is_only=True)
    ledger.submit(a_job("job-cccc", 1, priority=5))
    assert hearing.told() == Urgent(priority=5, is_only=False)


def test_so_are_they_when_it_is_resumed_raised_or_given_back(ledger: Ledger, take: Take) -> None:
    hearing = Hearing(ledger)
    ledger.submit(a_job("job-aaaa", 9, priority=-9))
    ledger.submit(a_job("job-bbbb", 1, priority=2))
    assert hearing.next() == 2
    ledger.pause("job-bbbb", "default")
    ledger.resume("job-bbbb", "default")
    assert hearing.next() == 2
    ledger.set_priority("job-bbbb", "default", 4)
    assert hearing.next() == 4
    ledger.release(taken(take))
    assert hearing.next() == 4
    ledger.set_priority("job-bbbb", "default", -10)
    assert hearing.next() is None


def test_they_wait_until_they_are_told(ledger: Ledger) -> None:
    ledger.submit(a_job("job-aaaa"))
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(Hearing(ledger).next, 5.0)
        ledger.submit(a_job("job-bbbb", priority=3))
        assert told.result() == 3


def test_what_they_are_told_by_may_be_damaged(raw: Any, ledger: Ledger, take: Take) -> None:
    raw.set(f"{FARM}:model:urgent:{MODEL}", "not a stream")
    ledger.submit(a_job("job-aaaa"))
    ledger.submit(a_job("job-bbbb", priority=3))
    assert taken(take).job_id == "job-bbbb"
    with pytest.raises(Unavailable, match="model:urgent"):
        Hearing(ledger).next()
    raw.delete(f"{FARM}:model:urgent:{MODEL}")
    raw.xadd(f"{FARM}:model:urgent:{MODEL}", {"something": "else"})
    with pytest.raises(Unavailable, match="model:urgent"):
        Hearing(ledger).next()


def test_priority_goes_before_shares(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job("job-aaaa", 10, tenant="a", priority=1))
    ledger.submit(a_job("job-bbbb", 10, tenant="b"))
    assert [taken(take).tenant for _ in range(20)] == ["a"] * 10 + ["b"] * 10


def test_what_tenants_had_is_forgotten_with_time(raw: Any, ledger: Ledger, take: Take) -> None:
    for number in range(50):
        ledger.submit(a_job(f"job-{number:04}", 1, tenant=f"t{number}"))
        ledger.submit(a_job(f"more-{number:04}", 1, tenant=f"t{number}"))
    while take() is not None:
        pass
    assert not raw.exists(f"{FARM}:model:tenants:{MODEL}", f"{FARM}:model:shares:{MODEL}")


# Images that a worker may not have.


def put_back(ledger: Ledger, raw: Any, claim: Claim) -> None:
    """In trouble; its time to be tried again has come, by others."""
    assert ledger.release(claim, 100.0, "no memory")
    due(raw)


@pytest.mark.parametrize("other", [{}, {"tenant": "other"}, {"priority": -1}])
def test_an_image_that_is_kept_for_others_keeps_no_job_waiting(
    raw: Any, ledger: Ledger, take: Take, other: dict[str, Any]
) -> None:
    ledger.submit(a_job("job-0000", 1))
    put_back(ledger, raw, taken(take, "small"))
    ledger.submit(a_job("job-next", 2, **other))
    assert [taken(take, "small").job_id for _ in range(2)] == ["job-next"] * 2
    assert take("small") is None
    assert taken(take, "large").job_id == "job-0000"


def test_many_images_that_are_kept_for_others_keep_no_job_waiting(
    raw: Any, ledger: Ledger, take: Take
) -> None:
    ledger.submit(a_job("job-0000", 200))
    for claim in [taken(take, "small") for _ in range(200)]:
        assert ledger.release(claim, 100.0, "no memory")
    for _ in range(10):  # some at each claim
        due(raw)
        assert take("small") is None
    ledger.submit(a_job("job-next", 2))
    assert [taken(take, "small").job_id for _ in range(2)] == ["job-next"] * 2
    assert taken(take, "large").job_id == "job-0000"


def test_what_is_kept_for_others_does_not_hide_what_is_not(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=101))
    claims = [taken(take, "small") for _ in range(101)]
    for claim in claims[:100]:
        assert ledger.release(claim, 100.0, "no memory")
    for _ in range(10):
        due(raw)
        take("small")
    assert ledger.release(claims[100])
    assert taken(take, "small").index == 100


# What a worker holds counts over all its models.


def test_a_suspect_is_alone_in_its_process_whatever_else_that_serves(
    raw: Any, ledger: Ledger, take: Take
) -> None:
    ledger.submit(a_job(n=1))
    die(ledger, raw, taken(take, "dead"))
    ledger.submit(a_job("job-other", 2, model="other"))

    other = ledger.claim("other", "w", "nonce-other", idle=True)
    assert other is not None
    assert take("w", idle=True) is None  # it holds an image of the other model
    assert ledger.finish(other)
    suspect = taken(take, "w", idle=True)
    assert suspect.alone
    assert ledger.claim("other", "w", "nonce-again", idle=True) is None
    assert ledger.finish(suspect)
    assert ledger.claim("other", "w", "nonce-again", idle=True) is not None


def test_a_worker_that_runs_empty_for_a_suspect_takes_nothing_of_another_model(
    raw: Any, ledger: Ledger, take: Take
) -> None:
    ledger.submit(a_job(n=2))
    die(ledger, raw, taken(take, "dead"))
    ledger.submit(a_job("job-other", 9, model="other"))
    busy = ledger.claim("other", "w", "nonce-1", idle=True)
    assert busy is not None
    assert take("w") is None  # reserved for the suspect
    assert ledger.claim("other", "w", "nonce-2", idle=False) is None
    assert ledger.finish(busy)
    suspect = taken(take, "w", idle=True)
    assert suspect.alone
    assert ledger.finish(suspect)
    assert ledger.claim("other", "w", "nonce-3", idle=False) is not None
