"""What the ledger promises users and workers, on a real Redis."""

import threading
from dataclasses import replace
from typing import Any

import msgpack
import pytest

from img2img_shared.errors import NotFound, Refused, WireError
from img2img_shared.job import ImageState, JobState
from img2img_shared.ledger import FarmRedis, Ledger, connect
from img2img_shared.records import Claim, ExpiredLeases, WorkerInfo
from img2img_shared.wire import VERSION, encode_job
from tests.eventually import eventually
from tests.integration.ledger_helpers import FARM, MODEL, Take, a_job, die, due, run_out, taken, tick

# Submitting.


def test_a_job_of_100_000_images_costs_no_more_than_one_of_10(raw: Any, farm_redis: FarmRedis) -> None:
    def cost(n: int) -> tuple[set[str], int, int]:
        raw.flushall()
        ledger = Ledger(farm_redis)
        ledger.jobs("default")
        raw.config_resetstat()
        ledger.submit(a_job(n=n))
        calls = sum(stat["calls"] for stat in raw.info("commandstats").values())
        names = [key.decode() for key in raw.scan_iter()]
        return set(names), sum(raw.memory_usage(key, samples=0) for key in names), calls

    ledger = Ledger(farm_redis)
    ledger.submit(a_job())  # so that the script is loaded before calls are counted
    small, large = cost(10), cost(100_000)
    assert large[0] == small[0]
    assert large[1] <= small[1] + 64
    assert large[2] == small[2]


def test_submitting_is_one_call(raw: Any, ledger: Ledger) -> None:
    ledger.submit(a_job("job-before"))
    raw.config_resetstat()
    ledger.submit(a_job())
    assert raw.info("commandstats")["cmdstat_evalsha"]["calls"] == 1


def test_a_finished_image_costs_a_bit(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=4000))
    for _ in range(300):  # so that the pace's list is as long as it gets
        ledger.finish(taken(take))
    parts = [key for key in raw.keys(f"{FARM}:job:*") if not key.endswith(b":events")]
    before = sum(raw.memory_usage(key, samples=0) for key in parts)
    for _ in range(1600):
        ledger.finish(taken(take))
    assert set(parts) == {key for key in raw.keys(f"{FARM}:job:*") if not key.endswith(b":events")}
    assert sum(raw.memory_usage(key, samples=0) for key in parts) - before <= 1600 / 8 * 2


def test_a_job_is_read_back_as_it_was_written(ledger: Ledger) -> None:
    job = a_job(priority=3, tenant="t", idempotency_key="k")
    ledger.submit(job)
    assert ledger.job(job.id, "t") == job


def test_a_repeated_idempotency_key_gives_the_tenants_first_job(ledger: Ledger) -> None:
    assert ledger.submit(a_job("job-1111", idempotency_key="k")) == "job-1111"
    assert ledger.submit(a_job("job-2222", idempotency_key="k")) == "job-1111"
    assert ledger.submit(a_job("job-3333", idempotency_key="k", tenant="other")) == "job-3333"
    assert [status.id for status in ledger.jobs("default")] == ["job-1111"]


def test_nothing_is_left_of_a_job_that_is_removed(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=3, idempotency_key="k"))
    with pytest.raises(Refused, match="has not ended; cancel it first"):
        ledger.remove("job-0000", "default")
    with pytest.raises(NotFound):
        ledger.remove("job-0000", "other")
    ledger.finish(taken(take))
    ledger.release(taken(take), 3600.0, "no store")
    ledger.cancel("job-0000", "default")
    ledger.remove("job-0000", "default")
    with pytest.raises(NotFound):
        ledger.remove("job-0000", "default")
    assert ledger.jobs("default") == []
    assert ledger.demand() == []
    assert not [key for key in raw.keys("*") if b"job-0000" in key and b":abandoned:" not in key]
    assert not raw.keys("*:once:*")
    with pytest.raises(Refused, match="submit again"):  # by a client that slept
        ledger.submit(a_job(n=3, idempotency_key="k"))
    assert ledger.submit(a_job("job-1111", idempotency_key="k")) == "job-1111"
    assert taken(take).job_id == "job-1111"


def test_the_same_job_submitted_twice_is_one_job(ledger: Ledger) -> None:
    ledger.submit(a_job())
    assert ledger.submit(a_job()) == "job-0000"
    assert len(ledger.jobs("default")) == 1


@pytest.mark.parametrize("other", [{"n": 4}, {"tenant": "other"}])
def test_an_id_is_not_taken_twice(ledger: Ledger, other: dict[str, Any]) -> None:
    ledger.submit(a_job())
    with pytest.raises(Refused, match="another job has it"):
        ledger.submit(a_job(**other))
    assert ledger.status("job-0000", "default").n == 3


def test_a_job_written_by_a_newer_version_is_refused(raw: Any, ledger: Ledger) -> None:
    ledger.submit(a_job())
    newer = {**msgpack.unpackb(encode_job(a_job())), "v": VERSION + 1}
    raw.hset(f"{FARM}:job:job-0000", "data", msgpack.packb(newer))
    with pytest.raises(WireError, match=f"written by version {VERSION + 1}"):
        ledger.job("job-0000", "default")


def test_farms_of_different_prefixes_share_a_redis_but_nothing_in_it(redis_url: str, ledger: Ledger) -> None:
    ledger.submit(a_job())
    with connect(redis_url, "other") as other_redis:
        other = Ledger(other_redis)
        assert other.jobs("default") == []
        assert other.claim(MODEL, "w", "nonce", idle=True) is None


def test_a_redis_that_forgot_the_scripts_is_given_them_again(raw: Any, ledger: Ledger) -> None:
    ledger.submit(a_job())
    raw.script_flush()
    assert ledger.claim(MODEL, "w", "nonce", idle=True) is not None


# Giving out.


def test_the_highest_priority_goes_first(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job("job-low0", 2, priority=-1))
    ledger.submit(a_job("job-high", 2, priority=5))
    ledger.submit(a_job("job-norm", 2))
    order = [taken(take).job_id for _ in range(6)]
    assert order == ["job-high"] * 2 + ["job-norm"] * 2 + ["job-low0"] * 2
    assert take() is None


def test_jobs_of_one_priority_share_fairly_and_a_new_one_waits_for_nobody(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job("job-huge", 100_000))
    for _ in range(50):
        taken(take)
    ledger.submit(a_job("job-tiny", 3))
    order = [taken(take).job_id for _ in range(6)]
    assert sorted(order) == ["job-huge"] * 3 + ["job-tiny"] * 3
    assert "job-tiny" in order[:2]


def test_a_job_that_paused_does_not_wait_for_all_that_it_had_before(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job("job-huge", 1000))
    for _ in range(50):
        taken(take)
    ledger.pause("job-huge", "default")
    ledger.submit(a_job("job-next", 1000))
    taken(take)
    ledger.resume("job-huge", "default")
    assert sorted(taken(take).job_id for _ in range(6)) == ["job-huge"] * 3 + ["job-next"] * 3


def test_a_changed_priority_holds_at_the_next_claim(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job("job-1111"))
    ledger.submit(a_job("job-2222"))
    assert ledger.set_priority("job-2222", "default", 1)
    assert [taken(take).job_id for _ in range(3)] == ["job-2222"] * 3
    assert not ledger.set_priority("job-2222", "default", 1)
    with pytest.raises(Refused, match="from -100 to 100"):
        ledger.set_priority("job-2222", "default", 101)


def test_a_job_brings_nothing_of_what_it_had_into_another_priority(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job("job-huge", 1000))
    for _ in range(50):
        taken(take)
    ledger.submit(a_job("job-next", 1000, priority=1))
    taken(take)
    ledger.pause("job-huge", "default")  # so that its share is written down
    ledger.set_priority("job-huge", "default", 1)
    ledger.resume("job-huge", "default")
    assert sorted(taken(take).job_id for _ in range(6)) == ["job-huge"] * 3 + ["job-next"] * 3


def test_a_paused_job_waits_and_a_resumed_one_goes_on(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job())
    running = taken(take)
    assert ledger.pause("job-0000", "default")
    assert take() is None
    assert ledger.renew([running]) == []
    assert ledger.finish(running)
    assert ledger.status("job-0000", "default").state is JobState.PAUSED
    assert ledger.resume("job-0000", "default")
    assert taken(take).index == 1


def test_models_have_their_own_images(ledger: Ledger) -> None:
    ledger.submit(a_job())
    assert ledger.claim("another", "w", "nonce", idle=True) is None


def test_each_image_is_given_to_one_of_many_claimants(farm_redis: FarmRedis, ledger: Ledger) -> None:
    ledger.submit(a_job("job-1111", 150))
    ledger.submit(a_job("job-2222", 150, priority=1))
    found: list[Claim] = []

    def work(worker: str) -> None:
        own = Ledger(farm_redis, lease=3600.0)
        number = 0
        while (claim := own.claim(MODEL, worker, f"{worker}-{number}", idle=False)) is not None:
            found.append(claim)
            assert own.finish(claim)
            number += 1

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 300
    assert len({(claim.job_id, claim.index) for claim in found}) == 300
    assert [ledger.status(job, "default").done for job in ("job-1111", "job-2222")] == [150, 150]


def test_a_claim_whose_reply_was_lost_is_given_again(ledger: Ledger) -> None:
    ledger.submit(a_job())
    first = ledger.claim(MODEL, "w", "nonce", idle=True)
    assert ledger.claim(MODEL, "w", "nonce", idle=True) == first
    assert ledger.status("job-0000", "default").running == 1


# Ending.


def test_only_the_current_attempt_ends_an_image_and_only_once(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=1))
    ledger.beat(WorkerInfo(id="w", model=MODEL, device="cpu", slots=1))
    stale = taken(take)
    assert die(ledger, raw, stale) == ExpiredLeases(handed_back=1)
    current = taken(take)
    assert (current.index, current.attempt) == (0, 2)
    for late in (ledger.finish, ledger.release, lambda claim: ledger.fail(claim, "no")):
        assert not late(stale)
    assert ledger.status("job-0000", "default").running == 1
    assert ledger.finish(current)
    assert not ledger.finish(current)
    assert not ledger.fail(current, "no")
    status = ledger.status("job-0000", "default")
    assert (status.done, status.failed, status.running, status.pending) == (1, 0, 0, 0)


def test_a_failed_image_keeps_its_reason_and_is_retried_alone_of_all(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=3))
    for _ in range(2):
        ledger.finish(taken(take))
    assert ledger.fail(taken(take), "é" * 5000)
    assert ledger.status("job-0000", "default").state is JobState.FAILED
    failed = ledger.images("job-0000", "default")[2]
    assert (failed.state, failed.reason) == (ImageState.FAILED, "é" * 1000)

    assert ledger.retry("job-0000", "default") == 1
    assert ledger.retry("job-0000", "default") == 0
    again = taken(take)
    assert (again.index, again.attempt) == (2, 2)
    assert take() is None
    ledger.finish(again)
    status = ledger.status("job-0000", "default")
    assert (status.done, status.failed, status.state) == (3, 0, JobState.DONE)


def test_any_number_of_failed_images_is_retried(raw: Any, ledger: Ledger) -> None:
    n = 5000
    ledger.submit(a_job(n=n))
    raw.hset(f"{FARM}:job:job-0000", mapping={"failed": n, "next": n})
    raw.hset(f"{FARM}:job:job-0000:failed", mapping=dict.fromkeys(range(n), "no"))
    assert ledger.retry("job-0000", "default") == n
    status = ledger.status("job-0000", "default")
    assert (status.failed, status.pending, raw.zcard(f"{FARM}:job:job-0000:back")) == (0, n, n)


def test_a_released_image_waits_for_its_backoff(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=1))
    assert ledger.release(taken(take), 600.0)
    assert ledger.images("job-0000", "default")[0].state is ImageState.PENDING
    assert take() is None
    assert ledger.waiting(MODEL, 1000) == 0
    (member,) = raw.zrange(f"{FARM}:model:delayed:{MODEL}", 0, -1)
    raw.zadd(f"{FARM}:model:delayed:{MODEL}", {member: 0})
    assert ledger.waiting(MODEL, 1000) == 1
    assert taken(take).attempt == 2


def test_an_image_put_back_in_trouble_waits_longer_each_time_and_fails_at_the_fifth(
    raw: Any, ledger: Ledger, take: Take
) -> None:
    ledger.submit(a_job(n=1))
    waits = []
    for worker in ("a", "b", "a", "b"):
        now = raw.time()[0]
        assert ledger.release(taken(take, worker), 100.0, "no\nmemory")
        ((_, until),) = raw.zrange(f"{FARM}:model:delayed:{MODEL}", 0, -1, withscores=True)
        waits.append(round((until / 1000 - now) / 100))
        due(raw)
    assert waits == [1, 2, 4, 8]
    assert ledger.release(taken(take, "a"), 100.0, "no\nmemory")
    (image,) = ledger.images("job-0000", "default")
    assert (image.state, image.attempt) == (ImageState.FAILED, 5)
    assert image.reason == "5 tries; the last: no\\nmemory"
    ledger.retry("job-0000", "default")
    assert ledger.release(taken(take, "a"), 100.0, "no memory")
    assert ledger.images("job-0000", "default")[0].state is ImageState.PENDING


def test_an_image_put_back_in_trouble_is_for_other_workers_first(
    raw: Any, ledger: Ledger, take: Take
) -> None:
    ledger.submit(a_job(n=2))
    assert ledger.release(taken(take, "small"), 100.0, "no memory")
    due(raw)
    assert taken(take, "small").index == 1
    assert take("small") is None
    assert taken(take, "large").index == 0


def test_who_had_trouble_gets_the_image_again_where_nobody_else_came(
    raw: Any, take: Take, ledger: Ledger
) -> None:
    ledger.submit(a_job(n=1))
    assert ledger.release(taken(take), 0.01, "no memory")
    claims: list[Claim] = []

    def taken_again() -> bool:
        claims.extend(filter(None, [take()]))
        return bool(claims)

    eventually("it is taken again", taken_again)
    assert claims[0].attempt == 2


def test_an_image_whose_job_was_cancelled_during_its_backoff_is_forgotten_with_it(
    raw: Any, ledger: Ledger, take: Take
) -> None:
    ledger.submit(a_job(n=1))
    ledger.release(taken(take), 600.0)
    ledger.cancel("job-0000", "default")
    delayed = f"{FARM}:model:delayed:{MODEL}"
    raw.zadd(delayed, dict.fromkeys(raw.zrange(delayed, 0, -1), 0))
    assert take(idle=True) is None
    assert not raw.exists(delayed)
    assert all(raw.pttl(key) > 0 for key in raw.scan_iter(f"{FARM}:job:*"))


def test_an_interrupted_job_has_its_workers_end_early_and_gives_out_nothing(
    ledger: Ledger, take: Take
) -> None:
    ledger.submit(a_job(n=3))
    running = taken(take)
    assert ledger.interrupt("job-0000", "default") == 2
    assert ledger.interrupt("job-0000", "default") == 0
    assert take() is None
    (told,) = ledger.renew([running])
    assert (told.interrupted, told.cancelled) == (True, False)
    assert ledger.status("job-0000", "default").finished is None
    assert ledger.finish(running)
    status = ledger.status("job-0000", "default")
    assert (status.done, status.cancelled, status.running) == (1, 2, 0)
    assert status.finished is not None


def test_what_was_interrupted_may_still_be_cancelled(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=2))
    running = taken(take)
    ledger.interrupt("job-0000", "default")
    assert ledger.cancel("job-0000", "default") == 1
    (told,) = ledger.renew([running])
    assert (told.interrupted, told.cancelled) == (False, True)


def test_a_cancelled_job_gives_out_nothing_and_tells_its_workers(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=4))
    done, running = taken(take), taken(take)
    ledger.finish(done)
    assert ledger.cancel("job-0000", "default") == 3
    assert take() is None
    (lost,) = ledger.renew([running])
    assert lost.cancelled
    status = ledger.status("job-0000", "default")
    assert (status.state, status.running, status.finished) == (JobState.CANCELLED, 1, None)
    assert ledger.release(running)
    status = ledger.status("job-0000", "default")
    assert (status.done, status.cancelled, status.running) == (1, 3, 0)
    assert status.finished is not None
    states = [image.state for image in ledger.images("job-0000", "default")]
    assert states == [ImageState.DONE] + [ImageState.CANCELLED] * 3
    assert ledger.cancel("job-0000", "default") == 0
    for late in (ledger.pause, ledger.resume, ledger.retry):
        with pytest.raises(Refused, match="this job was cancelled"):
            late("job-0000", "default")


def test_a_finished_job_is_forgotten_with_all_its_keys(farm_redis: FarmRedis, raw: Any, take: Take) -> None:
    ledger = Ledger(farm_redis, keep_jobs=0.05)
    ledger.submit(a_job(n=2, idempotency_key="k"))
    ledger.fail(taken(take), "no")
    ledger.finish(taken(take))
    with pytest.raises(NotFound):
        eventually("it is forgotten", lambda: not ledger.status("job-0000", "default"))
    assert ledger.jobs("default") == []
    of_the_model = {f"{FARM}:model:{part}:{MODEL}" for part in ("tick", "janitor", "floor")}
    of_the_tenant = {f"{FARM}:changed:default", f"{FARM}:submitted:default"}  # for an hour; the last 100
    assert {key.decode() for key in raw.scan_iter()} <= of_the_model | of_the_tenant | {f"{FARM}:arrivals"}
    assert ledger.submit(a_job("job-again", idempotency_key="k")) == "job-again"


# Leases, deaths and outages, with the real clock where it decides.


def test_the_lease_of_a_silent_worker_runs_out_by_itself(farm_redis: FarmRedis) -> None:
    ledger = Ledger(farm_redis, lease=0.2)
    ledger.submit(a_job(n=1))
    silent = ledger.claim(MODEL, "silent", "nonce", idle=True)
    assert silent is not None
    swept: list[ExpiredLeases | None] = []

    def suspected() -> bool:
        swept.append(ledger.take_back(MODEL, "janitor"))
        return ExpiredLeases(suspects=1) in swept

    eventually("it is a suspect", suspected)
    assert not ledger.finish(silent)
    assert ledger.images("job-0000", "default")[0].state is ImageState.PENDING


def test_a_renewed_lease_does_not_run_out(farm_redis: FarmRedis, raw: Any) -> None:
    ledger = Ledger(farm_redis, lease=3600.0)
    tick(ledger, raw)
    ledger.submit(a_job())
    claims = [ledger.claim(MODEL, "w", f"nonce-{number}", idle=False) for number in range(2)]
    kept, dropped = (claim for claim in claims if claim)
    run_out(raw, kept)
    run_out(raw, dropped)
    assert ledger.renew([kept]) == []
    assert ledger.take_back(MODEL, "janitor") == ExpiredLeases(suspects=1)
    (lost,) = ledger.renew([kept, dropped])
    assert (lost.claim, lost.cancelled) == (dropped, False)
    assert ledger.finish(kept)


def test_after_an_outage_holders_renew_before_anything_is_taken_back(farm_redis: FarmRedis, raw: Any) -> None:
    ledger = Ledger(farm_redis, lease=3600.0)
    tick(ledger, raw)
    ledger.submit(a_job())
    claim = ledger.claim(MODEL, "w", "nonce", idle=False)
    assert claim is not None
    run_out(raw, claim)
    raw.hset(f"{FARM}:model:tick:{MODEL}", "at", 1)  # nobody has ticked for more than half a lease
    assert ledger.take_back(MODEL, "janitor") == ExpiredLeases()
    assert ledger.take_back(MODEL, "janitor") == ExpiredLeases()
    assert ledger.renew([claim]) == []
    raw.hset(f"{FARM}:model:tick:{MODEL}", "grace", 0)
    assert ledger.take_back(MODEL, "janitor") == ExpiredLeases()
    assert ledger.finish(claim)


def test_a_clock_that_was_set_back_does_not_keep_a_dead_workers_images(
    raw: Any, ledger: Ledger, take: Take
) -> None:
    ledger.submit(a_job())
    claim = taken(take)
    seconds, _ = raw.time()
    raw.zadd(f"{FARM}:model:leases:{MODEL}", {claim.nonce: (seconds + 10 * 3600) * 1000})
    raw.hset(f"{FARM}:model:tick:{MODEL}", "grace", (seconds + 10 * 3600) * 1000)
    assert ledger.take_back(MODEL, "janitor") == ExpiredLeases()
    assert int(raw.hget(f"{FARM}:model:tick:{MODEL}", "grace")) <= (seconds + 3700) * 1000
    raw.hset(f"{FARM}:model:tick:{MODEL}", "grace", 0)
    ledger.take_back(MODEL, "janitor")
    assert raw.zscore(f"{FARM}:model:leases:{MODEL}", claim.nonce) <= (seconds + 3700) * 1000


def test_one_worker_at_a_time_is_the_janitor_and_another_follows_it(raw: Any, ledger: Ledger) -> None:
    assert ledger.take_back(MODEL, "janitor") == ExpiredLeases()
    assert ledger.take_back(MODEL, "another") is None
    assert raw.pttl(f"{FARM}:model:janitor:{MODEL}") > 0
    raw.delete(f"{FARM}:model:janitor:{MODEL}")
    assert ledger.take_back(MODEL, "another") == ExpiredLeases()
    assert ledger.take_back(MODEL, "janitor") is None


def test_an_image_whose_worker_died_runs_alone(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=3))
    assert die(ledger, raw, taken(take, "w1")) == ExpiredLeases(suspects=1)

    suspect = taken(take, "w2", idle=True)
    assert (suspect.index, suspect.alone, suspect.attempt) == (0, True, 2)
    assert take("w2", idle=False) is None
    assert take("w2", idle=True) is None
    assert not taken(take, "w3", idle=True).alone
    assert ledger.finish(suspect)
    assert not taken(take, "w2", idle=True).alone


def test_a_worker_with_other_images_in_hand_gets_no_suspect_even_if_it_says_idle(
    raw: Any, ledger: Ledger, take: Take
) -> None:
    ledger.submit(a_job(n=2))
    held = taken(take, "w2")
    assert die(ledger, raw, taken(take, "w1")) == ExpiredLeases(suspects=1)
    assert take("w2", idle=True) is None
    ledger.finish(held)
    assert taken(take, "w2", idle=True).alone


def test_a_suspect_does_not_starve_on_a_busy_farm(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=100))
    first, second = taken(take, "w1"), taken(take, "w2")
    assert die(ledger, raw, taken(take, "dead")) == ExpiredLeases(suspects=1)
    assert take("w1") is None  # it is its turn to run empty
    assert not taken(take, "w2").alone  # the others go on
    assert take("w1") is None
    ledger.finish(first)
    suspect = taken(take, "w1", idle=True)
    assert (suspect.index, suspect.alone) == (2, True)
    ledger.finish(suspect)
    assert not taken(take, "w1").alone
    assert ledger.finish(second)


def test_a_suspect_waits_for_jobs_of_higher_priority(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job("job-0000", 1))
    assert die(ledger, raw, taken(take, "w1")) == ExpiredLeases(suspects=1)
    ledger.submit(a_job("job-high", 1, priority=1))
    assert taken(take, "w2", idle=True).job_id == "job-high"
    assert taken(take, "w3", idle=True).alone


def test_an_image_that_killed_three_workers_fails_and_its_neighbours_do_not(
    raw: Any, ledger: Ledger, take: Take
) -> None:
    ledger.submit(a_job(n=2))
    poison, neighbour = taken(take, "w1"), taken(take, "w1")
    run_out(raw, neighbour)
    assert die(ledger, raw, poison) == ExpiredLeases(suspects=2)
    assert die(ledger, raw, taken(take, "w2", idle=True)) == ExpiredLeases(suspects=1)
    last = taken(take, "w3", idle=True)
    assert (last.index, last.attempt) == (0, 3)
    assert die(ledger, raw, last) == ExpiredLeases(failed=1)
    image = ledger.images("job-0000", "default")[0]
    assert image.state is ImageState.FAILED
    assert image.reason == "3 workers died while rendering it, the last of them w3"
    assert ledger.finish(taken(take, "w4", idle=True))
    assert ledger.status("job-0000", "default").state is JobState.FAILED

    ledger.retry("job-0000", "default")
    again = taken(take, "w5", idle=True)
    assert (again.index, again.alone) == (0, True)
    assert die(ledger, raw, again) == ExpiredLeases(suspects=1)


def test_what_kills_a_third_worker_after_its_job_was_cancelled_is_cancelled_not_failed(
    raw: Any, ledger: Ledger, take: Take
) -> None:
    ledger.submit(a_job(n=1))
    for worker in ("w1", "w2"):
        assert die(ledger, raw, taken(take, worker, idle=True)) == ExpiredLeases(suspects=1)
    last = taken(take, "w3", idle=True)
    ledger.cancel("job-0000", "default")
    assert die(ledger, raw, last) == ExpiredLeases(suspects=1)
    status = ledger.status("job-0000", "default")
    assert (status.cancelled, status.failed, status.running) == (1, 0, 0)
    assert status.finished is not None


def test_a_suspect_that_is_released_stays_one(ledger: Ledger, raw: Any, take: Take) -> None:
    ledger.submit(a_job(n=1))
    assert die(ledger, raw, taken(take, "w1")) == ExpiredLeases(suspects=1)
    assert ledger.release(taken(take, "w2", idle=True))
    assert take("w3", idle=False) is None
    assert taken(take, "w3", idle=True).alone


def test_a_live_worker_that_lost_its_lease_did_not_die(ledger: Ledger, raw: Any, take: Take) -> None:
    ledger.submit(a_job(n=1))
    ledger.beat(WorkerInfo(id="w1", model=MODEL, device="cpu", slots=4))
    assert die(ledger, raw, taken(take, "w1")) == ExpiredLeases(handed_back=1)
    assert not taken(take, "w2", idle=True).alone


def test_a_worker_that_was_frozen_and_comes_back_did_not_die(ledger: Ledger, raw: Any, take: Take) -> None:
    ledger.submit(a_job(n=1))
    frozen = taken(take, "w1")
    assert die(ledger, raw, frozen) == ExpiredLeases(suspects=1)
    (lost,) = ledger.renew([frozen])
    assert not lost.cancelled
    assert not taken(take, "w2", idle=False).alone


# Watching.


def test_every_call_about_a_job_keeps_it_from_other_tenants(ledger: Ledger) -> None:
    ledger.submit(a_job())
    for name in ("job", "status", "images", "cancel", "pause", "resume", "retry", "events"):
        for job_id, tenant in (("job-0000", "other"), ("job-none", "default"), ("", "default")):
            with pytest.raises(NotFound, match="no job"):
                getattr(ledger, name)(job_id, tenant)
    with pytest.raises(NotFound):
        ledger.set_priority("job-0000", "other", 1)
    assert ledger.jobs("other") == []
    assert ledger.status("job-0000", "default").state is JobState.PENDING


def test_jobs_are_listed_newest_first(raw: Any, ledger: Ledger) -> None:
    for number in range(4):
        ledger.submit(a_job(f"job-000{number}"))
        raw.zadd(f"{FARM}:tenant:default", {f"job-000{number}": number})
    assert [status.id for status in ledger.jobs("default", 3)] == ["job-0003", "job-0002", "job-0001"]
    with pytest.raises(Refused, match="limit"):
        ledger.jobs("default", 0)


def test_images_come_in_pages(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=25))
    claims = [taken(take) for _ in range(20)]
    for claim in claims[::3]:
        ledger.finish(claim)
    images = ledger.images("job-0000", "default", 9, 14)
    assert [image.index for image in images] == list(range(9, 23))
    assert [i.index for i in images if i.state is ImageState.DONE] == [9, 12, 15, 18]
    assert [i.index for i in images if i.state is ImageState.PENDING] == [20, 21, 22]
    assert {image.worker for image in images} == {"w", None}
    assert len(ledger.images("job-0000", "default", 20)) == 5
    assert ledger.images("job-0000", "default", 25) == []
    for start, count in ((-1, 1), (0, 0), (0, 1001)):
        with pytest.raises(Refused):
            ledger.images("job-0000", "default", start, count)


def test_a_page_may_hold_1000_images(ledger: Ledger) -> None:
    ledger.submit(a_job(n=100_000))
    assert len(ledger.images("job-0000", "default", 99_000, 1000)) == 1000


def happened_before(raw: Any, seconds: float, *fields: str) -> None:
    """Move what is noted of the job's past so many seconds back."""
    for field in fields:
        then = raw.hget(f"{FARM}:job:job-0000", field)
        raw.hset(f"{FARM}:job:job-0000", field, int(then) - round(seconds * 1000))


def test_rate_and_time_left_follow_the_last_images(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=400))
    assert ledger.status("job-0000", "default").eta is None
    for _ in range(150):  # one each half second, of late
        ledger.finish(taken(take))
        happened_before(raw, 0.5, "ended_at")
    happened_before(raw, 600, "started")
    status = ledger.status("job-0000", "default")
    assert status.rate == pytest.approx(2, rel=0.1)
    assert status.eta == pytest.approx(250 / status.rate)
    assert status.eta_spread == pytest.approx(status.eta / 60**0.5, rel=0.1)
    happened_before(raw, 600, "ended_at")
    status = ledger.status("job-0000", "default")
    assert status.rate < 0.001
    # by its whole life, which says something where the last half minute does not
    assert status.eta == pytest.approx(250 / (150 / 600), rel=0.1)


def test_nobody_says_when_a_job_ends_before_some_of_its_images_have(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=400))
    for _ in range(4):
        status = ledger.status("job-0000", "default")
        assert (status.eta, status.eta_spread) == (None, None)
        ledger.finish(taken(take))
    assert ledger.status("job-0000", "default").eta is not None


def test_the_rate_of_a_young_job_is_that_of_its_time(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=400))
    for _ in range(10):
        ledger.finish(taken(take))
    now = raw.time()
    raw.hset(f"{FARM}:job:job-0000", "started", now[0] * 1000 - 5000)
    assert ledger.status("job-0000", "default").rate == pytest.approx(2, rel=0.4)


def test_a_pause_says_nothing_about_how_fast_a_job_is(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=60))
    for _ in range(30):
        ledger.finish(taken(take))
    happened_before(raw, 15, "started")
    ledger.pause("job-0000", "default")
    before = ledger.status("job-0000", "default")
    assert before.rate == pytest.approx(2, rel=0.4)
    happened_before(raw, 3600, "started", "ended_at", "paused")
    paused = ledger.status("job-0000", "default")
    assert (paused.rate, paused.eta) == pytest.approx((before.rate, before.eta), rel=0.4)
    ledger.resume("job-0000", "default")
    resumed = ledger.status("job-0000", "default")
    assert (resumed.rate, resumed.eta) == pytest.approx((before.rate, before.eta), rel=0.4)


def test_a_job_that_has_ended_keeps_the_rate_that_it_had(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=3))
    for _ in range(2):
        ledger.finish(taken(take))
    happened_before(raw, 300, "started")
    ledger.fail(taken(take), "no picture")
    happened_before(raw, 3600, "started", "ended_at", "finished")
    assert ledger.status("job-0000", "default").rate == pytest.approx(3 / 300, rel=0.1)
    ledger.retry("job-0000", "default")
    ledger.finish(taken(take))
    assert ledger.status("job-0000", "default").rate == pytest.approx(3 / 300, rel=0.1)


def test_events_tell_what_happened_in_order_and_go_on_from_an_id(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=2))
    ledger.finish(taken(take))
    ledger.fail(taken(take), "no picture")
    events = ledger.events("job-0000", "default")
    assert [(e.index, str(e.state), e.done, e.failed, e.running) for e in events] == [
        (None, "pending", 0, 0, 0),
        (0, "running", 0, 0, 1),
        (0, "done", 1, 0, 0),
        (1, "running", 1, 0, 1),
        (1, "failed", 1, 1, 0),
        (None, "failed", 1, 1, 0),
    ]
    assert (events[4].reason, events[4].attempt, events[4].job_state) == ("no picture", 1, JobState.FAILED)
    assert ledger.events("job-0000", "default", events[3].id) == events[4:]
    assert ledger.events("job-0000", "default", events[5].id) == []
    with pytest.raises(Refused, match="after"):
        ledger.events("job-0000", "default", "yesterday")


def test_a_watcher_that_waits_is_woken_by_the_next_event(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job())
    last = ledger.events("job-0000", "default")[-1].id
    found: list[str] = []
    watcher = threading.Thread(
        target=lambda: found.extend(
            str(e.state) for e in ledger.events("job-0000", "default", last, block=60)
        )
    )
    watcher.start()
    taken(take)
    watcher.join(120)
    assert found == ["running"]


def test_a_watcher_that_waits_for_nothing_comes_back(ledger: Ledger) -> None:
    ledger.submit(a_job())
    last = ledger.events("job-0000", "default")[-1].id
    assert ledger.events("job-0000", "default", last, block=0.05) == []


def test_the_event_stream_is_capped(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(n=1000))
    for _ in range(1000):
        ledger.finish(taken(take))
    assert 1000 <= raw.xlen(f"{FARM}:job:job-0000:events") < 1200


def test_live_workers_are_listed_with_what_they_hold(raw: Any, ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job())
    info = WorkerInfo(id="w", model=MODEL, device="cuda:0", slots=32)
    ledger.beat(info)
    ledger.beat(replace(info, id="w2"))
    taken(take)
    raw.delete(f"{FARM}:worker:w2")
    (worker,) = ledger.workers()
    assert (worker.info, worker.running) == (info, 1)


def test_a_worker_that_leaves_is_not_listed_any_more(farm_redis: FarmRedis) -> None:
    ledger = Ledger(farm_redis)
    for worker in ("goes", "stays"):
        ledger.beat(WorkerInfo(id=worker, model=MODEL, device="cpu", slots=1))
    ledger.leave("goes")
    assert [each.info.id for each in ledger.workers()] == ["stays"]


def test_a_worker_that_does_not_beat_is_not_listed_for_long(farm_redis: FarmRedis) -> None:
    ledger = Ledger(farm_redis, lease=0.1)
    ledger.beat(WorkerInfo(id="w", model=MODEL, device="cpu", slots=1))
    eventually("it is not listed", lambda: ledger.workers() == [])


# A model's name stands for one checkpoint.

FIRST, SECOND = "1" * 64, "2" * 64


def test_a_second_checkpoint_of_a_models_name_is_refused_with_both_named(ledger: Ledger) -> None:
    ledger.check_model(MODEL, FIRST)
    ledger.check_model(MODEL, SECOND)
    ledger.bind_model(MODEL, FIRST)
    ledger.bind_model(MODEL, FIRST)
    ledger.bind_model("another", SECOND)
    for ask in (ledger.check_model, ledger.bind_model):
        with pytest.raises(
            Refused, match=f"of SHA-256 {FIRST}; this one has {SECOND}. .* --rebind to take the name over$"
        ):
            ask(MODEL, SECOND)


def test_the_vae_beside_a_checkpoint_is_part_of_what_its_name_stands_for(ledger: Ledger) -> None:
    plain, other = (
        WorkerInfo(id=name, model=MODEL, device="cpu", slots=1, sha256=FIRST, vae_sha256=vae)
        for name, vae in (("plain", None), ("other", SECOND))
    )
    assert plain.identity == FIRST
    ledger.bind_model(MODEL, str(other.identity))
    with pytest.raises(Refused, match=f"{FIRST} with a VAE of {SECOND}; this one has {FIRST}"):
        ledger.check_model(MODEL, str(plain.identity))
    assert not ledger.beat(other).is_replaced
    assert ledger.beat(plain).is_replaced


def test_a_name_that_is_bound_anew_ends_workers_of_the_checkpoint_before(ledger: Ledger) -> None:
    old, new = (
        WorkerInfo(id=name, model=MODEL, device="cpu", slots=1, sha256=digest)
        for name, digest in (("old", FIRST), ("new", SECOND))
    )
    ledger.bind_model(MODEL, FIRST)
    assert not ledger.beat(old).is_replaced
    ledger.bind_model(MODEL, SECOND, rebind=True)
    assert not ledger.beat(new).is_replaced
    assert ledger.beat(old).is_replaced
    with pytest.raises(Refused):
        ledger.check_model(MODEL, FIRST)


def test_a_redis_that_forgot_all_learns_from_the_next_beat_what_a_name_stands_for(
    raw: Any, ledger: Ledger
) -> None:
    ledger.bind_model(MODEL, FIRST)
    raw.flushall()
    assert not ledger.beat(WorkerInfo(id="w", model=MODEL, device="cpu", slots=1, sha256=FIRST)).is_replaced
    with pytest.raises(Refused):
        ledger.bind_model(MODEL, SECOND)


def test_a_worker_of_an_older_version_does_not_say_what_it_has(ledger: Ledger) -> None:
    ledger.bind_model(MODEL, FIRST)
    assert not ledger.beat(WorkerInfo(id="w", model=MODEL, device="cpu", slots=1)).is_replaced


def test_a_job_whose_pushed_model_is_gone_is_refused_in_the_call_that_would_write_it(ledger: Ledger) -> None:
    job = a_job().model_copy(update={"files": {"lora/ink": "5" * 64}})
    with pytest.raises(Refused, match="files is 'lora/ink': it was removed from the store"):
        ledger.submit(job)
    with pytest.raises(NotFound):
        ledger.status(job.id, job.tenant)
