"""What a watcher does while Redis is away."""

import logging
from collections.abc import Iterator

import pytest

from img2img_shared.errors import Unavailable
from img2img_shared.farm.patience import patiently


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for comes at once."""
    monkeypatch.setattr("img2img_shared.farm.patience.time.sleep", lambda _: None)


def away(times: int) -> Iterator[int]:
    """How often Redis has yet to be asked in vain."""
    yield from range(times, -1, -1)


def test_an_outage_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    left = away(3)

    def ask() -> str:
        if next(left):
            raise Unavailable("Redis at x does not answer")
        return "here"

    with caplog.at_level(logging.WARNING):
        assert patiently(ask) == "here"
    assert caplog.messages == ["Redis at x does not answer; trying again for 120 s", "the farm answers again"]


def test_what_is_there_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert patiently(lambda: 1) == 1
    assert caplog.messages == []


def test_a_wait_ends_when_it_is_over() -> None:
    def ask() -> None:
        raise Unavailable("Redis at x does not answer")

    with pytest.raises(Unavailable):
        patiently(ask, outage=0.0)
