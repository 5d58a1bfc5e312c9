"""Images whose tiles are a job of their own: what the ledger does with the two."""

from typing import Any

import pytest

from img2img_shared.errors import NotFound, Refused
from img2img_shared.job import ImageState, JobState
from img2img_shared.ledger import Ledger
from tests.integration.ledger_helpers import Take, a_job, taken

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
