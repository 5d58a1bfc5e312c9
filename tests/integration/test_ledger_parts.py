"""Images whose tiles are a job of their own: what the ledger does with the two."""

from typing import Any

import pytest

from img2img_shared.errors import NotFound, Refused
from img2img_shared.job import ImageState, JobState
from img2img_shared.ledger import Ledger
from tests.integration.ledger_helpers import FARM, MODEL, Take, a_job, die, taken

WHOLE, TILES = "job-whole", "job-tiles"


def spread(ledger: Ledger, take: Take) -> None:
    """A job of two images, of which the first waits for a job of two tiles."""
    ledger.submit(a_job(WHOLE, n=2))
    claim = taken(take)
    ledger.submit(a_job(TILES, n=2, priority=1), whole=(WHOLE, claim.index))
    assert ledger.wait_for(claim, TILES) is ImageState.PENDING


def state(ledger: Ledger, job: str) -> JobState:
    return ledger.status(job, "default").state


def test_an_image_is_given_out_again_when_its_tiles_have_ended(ledger: Ledger, take: Take) -> None:
    spread(ledger, take)
    given = [taken(take) for _ in range(3)]
    assert [(each.job_id, each.index) for each in given] == [(TILES, 0), (TILES, 1), (WHOLE, 1)]
    assert take("w") is None
    ledger.finish(given[0])
    assert take("w") is None, "one tile is under way"
    ledger.fail(given[1], "no")
    again = taken(take)
    assert (again.job_id, again.index, again.attempt) == (WHOLE, 0, 2)


def test_tiles_that_ended_first_are_not_waited_for(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(WHOLE, n=1))
    claim = taken(take)
    ledger.submit(a_job(TILES, n=1), whole=(WHOLE, 0))
    ledger.finish(taken(take))
    ledger.wait_for(claim, TILES)
    assert taken(take).job_id == WHOLE


def test_what_is_done_to_a_job_is_done_to_its_tiles(ledger: Ledger, take: Take) -> None:
    spread(ledger, take)
    ledger.pause(WHOLE, "default")
    assert (state(ledger, TILES), take("w")) == (JobState.PAUSED, None)
    ledger.resume(WHOLE, "default")
    ledger.set_priority(WHOLE, "default", 7)
    assert ledger.status(TILES, "default").priority == 7
    ledger.fail(taken(take), "no")
    ledger.fail(taken(take), "no")
    ledger.retry(WHOLE, "default")
    assert ledger.status(TILES, "default").failed == 0
    ledger.cancel(WHOLE, "default")
    assert state(ledger, TILES) is JobState.CANCELLED


def test_tiles_begin_paused_where_their_job_is(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(WHOLE, n=1))
    taken(take)
    ledger.pause(WHOLE, "default")
    ledger.submit(a_job(TILES, n=1), whole=(WHOLE, 0))
    assert take("w") is None


def test_a_cancelled_job_gets_no_tiles_any_more(ledger: Ledger, take: Take) -> None:
    ledger.submit(a_job(WHOLE, n=1))
    taken(take)
    ledger.cancel(WHOLE, "default")
    with pytest.raises(Refused):
        ledger.submit(a_job(TILES, n=1), whole=(WHOLE, 0))


def test_tiles_are_removed_with_their_job(ledger: Ledger, take: Take, raw: Any) -> None:
    spread(ledger, take)
    ledger.cancel(WHOLE, "default")
    ledger.remove(WHOLE, "default")
    for job in (WHOLE, TILES):
        with pytest.raises(NotFound):
            ledger.status(job, "default")
    assert not raw.keys("*job-whole:parts*")


def test_tiles_stay_as_long_as_their_image_may_want_them(ledger: Ledger, take: Take, raw: Any) -> None:
    ledger.submit(a_job(WHOLE, n=1, keep=60.0))
    claim = taken(take)
    ledger.submit(a_job(TILES, n=1, keep=60.0), whole=(WHOLE, 0))
    ledger.wait_for(claim, TILES)
    ledger.finish(taken(take))
    due, hash_of_tiles = f"{FARM}:due", f"{FARM}:job:{TILES}"
    assert (raw.zscore(due, TILES), raw.ttl(hash_of_tiles)) == (None, -1)
    ledger.fail(taken(take), "no memory")
    assert raw.zscore(due, TILES) == raw.zscore(due, WHOLE) is not None
    ledger.retry(WHOLE, "default")
    assert (raw.zcard(due), raw.ttl(hash_of_tiles)) == (0, -1)


def test_tiles_go_with_the_report_of_their_image_and_with_none_that_is_late(
    ledger: Ledger, take: Take, raw: Any
) -> None:
    ledger.submit(a_job(WHOLE, n=1))
    claim = taken(take)
    ledger.submit(a_job(TILES, n=1), whole=(WHOLE, 0))
    ledger.wait_for(claim, TILES)
    ledger.finish(taken(take))
    late = taken(take)
    die(ledger, raw, late)
    assert not ledger.finish(late, tiles=TILES)
    assert state(ledger, TILES) is JobState.DONE
    assert ledger.finish(taken(take, idle=True), tiles=TILES)
    with pytest.raises(NotFound):
        ledger.status(TILES, "default")
    assert not raw.exists(f"{FARM}:job:{WHOLE}:parts")


def test_a_job_of_tiles_is_removed_with_what_is_made_from_it(ledger: Ledger, take: Take) -> None:
    spread(ledger, take)
    ledger.cancel(TILES, "default")
    with pytest.raises(Refused, match=f"it renders tiles of job {WHOLE}, and goes with that"):
        ledger.remove(TILES, "default")


def test_a_retry_makes_tiles_anew_that_were_cancelled(ledger: Ledger, take: Take) -> None:
    spread(ledger, take)
    ledger.cancel(TILES, "default")
    for _ in range(2):
        ledger.fail(taken(take), "its tiles were cancelled")
    assert ledger.retry(WHOLE, "default") == 2
    claim = taken(take)
    ledger.submit(a_job(TILES, n=2, priority=1), whole=(WHOLE, claim.index))
    assert state(ledger, TILES) is JobState.PENDING


def test_any_number_of_failed_tiles_is_retried(ledger: Ledger, take: Take, raw: Any) -> None:
    n = 450
    ledger.submit(a_job(WHOLE, n=1))
    claim = taken(take)
    ledger.submit(a_job(TILES, n=n), whole=(WHOLE, 0))
    ledger.wait_for(claim, TILES)
    raw.hset(f"{FARM}:job:{TILES}", mapping={"failed": n, "next": n, "finished": 1})
    raw.hset(f"{FARM}:job:{TILES}:failed", mapping=dict.fromkeys(range(n), "no"))
    raw.zadd(f"{FARM}:model:delayed:{MODEL}", {f"{WHOLE} 0": 0})
    ledger.fail(taken(take), "tile 0 failed")
    assert ledger.retry(WHOLE, "default") == 1
    assert (ledger.status(TILES, "default").failed, ledger.status(WHOLE, "default").failed) == (0, 0)


def test_tiles_whose_job_was_removed_meanwhile_are_removed_soon(ledger: Ledger, take: Take, raw: Any) -> None:
    spread(ledger, take)
    tile = taken(take)
    ledger.cancel(WHOLE, "default")
    ledger.remove(WHOLE, "default")
    ledger.release(tile)
    assert state(ledger, TILES) is JobState.CANCELLED
    assert raw.zscore(f"{FARM}:due", TILES) is not None
