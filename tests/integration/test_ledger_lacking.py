"""What one worker lacks and others have, those get; and it keeps nobody from the rest."""

from collections.abc import Callable
from itertools import count

import pytest
from redis import Redis

from img2img_shared.job import ImageState, Job
from img2img_shared.ledger import FarmRedis, Ledger
from img2img_shared.params import Params
from img2img_shared.records import Claim, WorkerInfo, WorkerReport

MODEL = "sd {v1}/5"
Take = Callable[..., Claim]


@pytest.fixture
def ledger(farm_redis: FarmRedis) -> Ledger:
    """With a job of four images, leases of an hour, and workers "has" and "lacks"."""
    ledger = Ledger(farm_redis, lease=3600.0)
    submit(ledger, "job-0000", 4)
    live(ledger, "has", "lacks")
    return ledger


@pytest.fixture
def take(ledger: Ledger) -> Take:
    """What a worker is given."""
    numbers = count()

    def take(worker: str, *, idle: bool = False) -> Claim:
        claim = ledger.claim(MODEL, worker, f"nonce-{next(numbers)}", idle=idle)
        assert claim is not None
        return claim

    return take


def submit(ledger: Ledger, name: str, n: int) -> None:
    ledger.submit(Job(id=name, model=MODEL, params=Params(seed=1, subseed=1), n_inputs=n))


def live(ledger: Ledger, *workers: str, model: str = MODEL, trouble: str | None = None) -> None:
    for worker in workers:
        info = WorkerInfo(id=worker, model=model, device="cpu", slots=1)
        ledger.beat(info, WorkerReport(trouble=trouble))


def test_who_lacks_what_an_image_needs_is_given_the_next_one(ledger: Ledger, take: Take) -> None:
    assert ledger.pass_on(take("lacks"), ["has"]) is ImageState.PENDING
    assert take("lacks").index == 1
    assert take("has").index == 0


def test_of_a_job_that_needs_it_all_images_are_for_those_that_have_it(ledger: Ledger, take: Take) -> None:
    submit(ledger, "job-0001", 1)
    assert ledger.pass_on(take("lacks"), ["has"], whole_job=True)
    assert take("lacks").job_id == "job-0001"
    assert ledger.claim(MODEL, "lacks", "none", idle=True) is None
    assert [take("has").index for _ in range(4)] == [0, 1, 2, 3]


def test_one_that_is_passed_on_has_not_failed_however_often(
    farm_redis: FarmRedis, ledger: Ledger, take: Take
) -> None:
    hasty = Ledger(farm_redis, lease=0.0)
    for _ in range(12):
        claim = take("lacks")
        assert claim.index == 0
        assert hasty.pass_on(claim, ["has"]) is ImageState.PENDING
    claim = take("has")
    assert (claim.index, claim.attempt) == (0, 13)
    assert ledger.finish(claim)


def test_an_image_is_for_those_that_have_it_whoever_passed_it_on(ledger: Ledger, take: Take) -> None:
    live(ledger, "another")
    ledger.pass_on(take("lacks"), ["has"])
    assert take("another").index == 1


@pytest.mark.parametrize("how", ["dies", "loads another model", "is in trouble"])
def test_where_nobody_is_there_any_more_that_has_it_the_image_is_anybodys(
    ledger: Ledger, take: Take, how: str
) -> None:
    ledger.pass_on(take("lacks"), ["has"], whole_job=True)
    match how:
        case "dies":
            ledger.leave("has")
        case "loads another model":
            ledger.move("has", MODEL, "another", None)
        case "is in trouble":
            live(ledger, "has", trouble="the disk is full")
    assert take("lacks").index == 0


def test_who_lacked_it_may_look_again_after_a_lease(
    farm_redis: FarmRedis, take: Take, ledger: Ledger
) -> None:
    hasty = Ledger(farm_redis, lease=0.0)
    hasty.pass_on(take("lacks"), ["has"], whole_job=True)
    assert take("lacks").index == 0


def test_an_image_on_which_a_worker_died_is_passed_on_like_others(
    ledger: Ledger, take: Take, redis: Redis
) -> None:
    claim = take("dead")
    redis.hset("{img2img}:model:tick:" + MODEL, mapping={"at": 1, "grace": 0})
    ledger.take_back(MODEL, "janitor")
    redis.hset("{img2img}:model:tick:" + MODEL, "grace", 0)
    redis.zadd("{img2img}:model:leases:" + MODEL, {claim.nonce: 1})
    ledger.take_back(MODEL, "janitor")
    suspect = take("lacks", idle=True)
    assert (suspect.index, suspect.alone) == (0, True)
    ledger.pass_on(suspect, ["has"])
    assert take("lacks", idle=True).index == 1
    assert take("has", idle=True).alone


def test_many_jobs_for_others_keep_nobody_from_the_next(ledger: Ledger, take: Take) -> None:
    for number in range(1, 100):
        submit(ledger, f"job-{number:04}", 1)
    for _ in range(100):
        ledger.pass_on(take("lacks"), ["has"], whole_job=True)
    submit(ledger, "job-last", 1)
    assert take("lacks").job_id == "job-last"


def test_nothing_is_kept_of_what_is_done(ledger: Ledger, take: Take, redis: Redis) -> None:
    submit(ledger, "job-once", 1)
    for _ in range(5):
        ledger.pass_on(take("lacks"), ["has"])
    for _ in range(5):
        ledger.finish(take("has"))
    assert not redis.exists("{img2img}:job:job-0000:lacking", "{img2img}:job:job-once:lacking")


def test_a_lost_claim_is_passed_on_to_nobody(ledger: Ledger, take: Take) -> None:
    claim = take("lacks")
    assert ledger.release(claim)
    assert ledger.pass_on(claim, ["has"], whole_job=True) is None
    assert take("lacks").index == 0
