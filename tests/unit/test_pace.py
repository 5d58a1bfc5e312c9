"""When a job will have ended is told as exactly as can be known, and not before."""

import random

import pytest

from img2img_producer.pace import LEAST, Pace


def test_nothing_is_told_before_enough_was_seen() -> None:
    pace = Pace()
    for tenth in range(int(LEAST * 10)):
        pace.see(tenth / 10, tenth / 100)
        assert pace.to_go(1.0) is None
    pace.see(LEAST, LEAST / 10)
    assert pace.to_go(1.0) == pytest.approx((10.0, 10.0))


def test_what_comes_in_bursts_is_told_once_there_were_several() -> None:
    pace = Pace()
    pace.see(0.0, 0.0)
    pace.see(10.0, 4.0)
    pace.see(10.1, 4.0)
    assert pace.to_go(10.0) is not None
    pace.see(17.0, 4.0)
    assert pace.to_go(10.0) is None, "nothing for seven seconds may be the end of it"


def test_the_truth_lies_between_what_is_told() -> None:
    chance = random.Random(7)
    pace, progress, told = Pace(), 0.0, []
    for second in range(200):
        progress += chance.uniform(0.0, 1.0)
        pace.see(float(second), progress)
        if second > 20 and (found := pace.to_go(100.0)):
            told.append(found)
    assert len(told) > 150
    assert sum(low <= 200.0 <= high for low, high in told) > 0.8 * len(told)


def test_a_job_that_stood_still_or_begins_anew_is_seen_anew() -> None:
    pace = Pace()
    for second in range(10):
        pace.see(float(second), float(second))
    pace.see(10.0, 2.0)
    assert pace.to_go(1.0) is None
    for second in range(11, 20):
        pace.see(float(second), float(second))
    pace.forget()
    assert pace.to_go(1.0) is None
