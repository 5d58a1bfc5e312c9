"""How long a worker rests after trouble, and what it takes for a shortage."""

import errno
import threading
from types import SimpleNamespace

import pytest
import torch

from img2img_worker.farm.backoff import FIRST_REST, Backoff, pause_before, shortage


class Clock(threading.Event):
    """Waits pass at once; how long they would have been is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        self.now += timeout
        return self.is_set()


def test_a_rest_doubles_with_each_trouble_to_the_longest_until_an_image_is_finished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr("img2img_worker.farm.backoff.time", SimpleNamespace(monotonic=lambda: clock.now))
    rest = Backoff(clock, longest=3.0)
    rest.take()
    assert clock.waits == []
    for _ in range(4):
        rest.prolong()
        rest.take()
    rest.end()
    rest.prolong()
    rest.take()
    assert clock.waits == [FIRST_REST, 2 * FIRST_REST, 4 * FIRST_REST, 3.0, FIRST_REST]


@pytest.mark.parametrize(("tries", "most"), [(0, 1), (3, 8), (10, 30), (10**6, 30)])
def test_a_pause_is_at_least_half_of_what_doubles_to_the_longest(tries: int, most: float) -> None:
    pauses = [pause_before(tries, 30) for _ in range(50)]
    assert all(most / 2 <= pause <= most for pause in pauses)
    assert len(set(pauses)) > 1, "not everybody at once"


@pytest.mark.parametrize(
    ("error", "short_of"),
    [
        (MemoryError(), "out of memory"),
        (torch.OutOfMemoryError("CUDA"), "out of memory"),
        (OSError(errno.EMFILE, "Too many open files"), "out of files"),
        (OSError(errno.ENFILE, "Too many open files in system"), "out of files"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
        (RuntimeError("can't start new thread"), "out of memory"),
        (RuntimeError("shape mismatch"), None),
        (OSError(errno.EIO, "Input/output error"), None),
    ],
)
def test_a_shortage_is_told_by_what_libraries_say(error: Exception, short_of: str | None) -> None:
    assert shortage(error) == short_of
