"""What a terminal, and a log, show of a job."""

import io
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rich.console import Console

from img2img_producer.progress_display import ProgressDisplay, between, duration
from img2img_shared.job import JobState
from img2img_shared.records import JobStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STATUS = JobStatus(
    id="abcdefgh",
    tenant="default",
    model="m",
    priority=0,
    state=JobState.RUNNING,
    n=10,
    pending=5,
    running=1,
    done=3,
    failed=1,
    cancelled=0,
    rate=2.0,
    eta=180.0,
    eta_spread=60.0,
    created=NOW,
    started=NOW,
    finished=None,
)


def terminal() -> Console:
    """A console that takes itself for a terminal."""
    return Console(file=io.StringIO(), force_terminal=True, width=120, highlight=False)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_sees_nothing_before_there_is_something_to_say() -> None:
    console = terminal()
    with ProgressDisplay(console):
        pass
    assert "0/?" not in shown(console)


def test_a_terminal_sees_state_counts_rate_and_what_is_to_go() -> None:
    console = terminal()
    with ProgressDisplay(console) as board:
        board.update(STATUS)
    for part in ("rendering", "4/10", "1 failed", "2.0 images/s", "2 to 4 min to go"):
        assert part in shown(console)


def test_nobody_says_when_a_job_ends_whose_workers_went_away() -> None:
    console = terminal()
    with ProgressDisplay(console) as board:
        board.update(replace(STATUS, running=0, pending=6, waits_for="a worker that serves m: there is none"))
    assert "waiting" in shown(console)
    assert "to go" not in shown(console)


def test_a_single_image_shows_its_steps() -> None:
    console = terminal()
    alone = replace(
        STATUS, n=1, done=0, failed=0, pending=0, eta=None, rate=0.0, steps=(12, 20), under_way=0.6
    )
    with ProgressDisplay(console) as board:
        board.update(alone)
    assert "step 12 of 20" in shown(console)


def test_a_line_of_eighty_columns_holds_all_that_is_told() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, highlight=False)
    with ProgressDisplay(console) as board:
        board.update(replace(STATUS, n=100_000, done=33_333, eta=60_000, eta_spread=20_000.0))
    (line,) = {
        each for each in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown(console)).split("\n") if "rend" in each
    }
    assert "33334/100000 1 failed, 2.0 images/s, 11 to 22 h to go 0:00:00" in line


def test_a_job_that_began_and_lost_its_worker_waits_for_one() -> None:
    console = terminal()
    with ProgressDisplay(console) as board:
        board.update(replace(STATUS, running=0, pending=6))
    assert "waiting" in shown(console)
    assert "rendering" not in shown(console)


@pytest.mark.parametrize("state", [JobState.PAUSED, JobState.DONE, JobState.CANCELLED])
def test_a_job_that_does_not_move_has_no_pace(state: JobState) -> None:
    console = terminal()
    with ProgressDisplay(console) as board:
        board.update(replace(STATUS, state=state))
    assert str(state) in shown(console)
    assert "images/s" not in shown(console)
    assert "to go" not in shown(console)


def test_a_log_has_a_line_of_its_own_for_the_end() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=120)
    with ProgressDisplay(console) as board:
        board.stored(1, of=1)
        board.update(STATUS)  # too soon after the line before
        board.update(replace(STATUS, state=JobState.DONE, done=9, finished=NOW))
    assert shown(console) == "stored 1 input\ndone: 9 of 10 done, 1 failed\n"


def test_what_is_left_is_told_no_finer_than_it_is_known() -> None:
    cases = ((0.2, 0.9), (41, 42), (12, 34), (50, 70), (118, 121), (110, 260), (3000, 9000))
    assert [between(*case) for case in cases] == [
        *("1 s", "40 s", "10 to 35 s", "50 s to 1 min", "2 min", "2 to 4 min", "50 min to 2.5 h"),
    ]


def test_durations_are_read_at_a_glance() -> None:
    assert [duration(seconds) for seconds in (0.4, 200, 1290, 7500)] == [
        *("0 s", "3 min 20 s", "21 min", "2 h 05 min")
    ]


def test_a_terminal_that_moves_no_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    console = terminal()
    with ProgressDisplay(console) as board:
        board.update(replace(STATUS, state=JobState.DONE, done=10, failed=0, finished=NOW))
    assert shown(console) == "done: 10 of 10 done\n"
