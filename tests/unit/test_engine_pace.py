"""When a device is given its next step: late enough for others to join, before it has nothing to do."""

import pytest
import torch

from img2img_worker.engine.pace import KINDS, MOST, SHARE, SPARE, Pace, marks
from tests.unit.toy_device import ToyDevice

FULL, SMALL = "full", "small"


class Device(ToyDevice):
    """One whose clock stands still."""

    def launch(self, kind: str, takes: float, launching: float = 0.0) -> float:
        self.pace.rest()
        self.give(takes)
        self.now += launching
        return self.pace.launched(kind)

    def knows(self, kind: str, takes: float) -> None:
        """The pace has seen such a step, and how long it took."""
        self.launch(kind, takes)
        self.now = self.free
        self.pace.rest()

    def wait(self, until: float) -> None:
        """The engine looks now and then, until that moment."""
        while self.now < until:
            self.now = min(until, self.now + 0.01)
            self.pace.rest()


@pytest.fixture
def device() -> Device:
    return Device()


def test_a_step_is_launched_shortly_before_the_running_one_will_end(device: Device) -> None:
    device.knows(FULL, 10.0)
    began = device.now
    assert device.launch(FULL, 10.0) == 10.0
    assert device.pace.rest() == pytest.approx((1 - SHARE) * 10)
    device.wait(began + 5)
    assert device.pace.rest() == pytest.approx((1 - SHARE) * 10 - 5)
    device.wait(began + 9)
    assert device.pace.rest() == 0


def test_one_is_enough_behind_the_one_that_runs(device: Device) -> None:
    device.knows(FULL, 10.0)
    began = device.now
    for _ in range(2):
        device.launch(FULL, 10.0)
    assert device.pace.rest() == pytest.approx(20 - SHARE * 10)
    device.wait(began + 10)
    assert device.pace.rest() == pytest.approx((1 - SHARE) * 10, abs=0.02)


def test_of_a_kind_that_is_not_known_nothing_is_waited_for_but_no_more_than_two_are_left(
    device: Device,
) -> None:
    for number in range(MOST):
        assert device.launch(FULL, 10.0) == 0
        assert device.pace.rest() == 0
        assert device.now == 0, number
    device.launch(FULL, 10.0)
    assert device.now == 10.0
    device.launch(FULL, 10.0)
    assert device.now == 20.0


def test_a_device_that_has_done_all_has_the_next_at_once_whatever_was_expected(device: Device) -> None:
    device.knows(FULL, 10.0)
    device.launch(FULL, 1.0)
    assert device.pace.rest() > 0
    device.now += 1
    assert device.pace.rest() == 0
    device.launch(FULL, 10.0)
    assert device.pace.rest() == pytest.approx(1 - max(SPARE, SHARE)), "the least that it took"


def test_a_short_step_waits_for_nothing(device: Device) -> None:
    device.knows(SMALL, SPARE / 2)
    device.launch(SMALL, SPARE / 2)
    device.launch(SMALL, SPARE / 2)
    assert device.pace.rest() == 0


def test_what_came_late_to_look_counts_from_when_the_step_may_have_begun(device: Device) -> None:
    device.launch(FULL, 10.0)
    device.now = 30.0
    device.pace.rest()
    device.launch(FULL, 10.0)
    assert device.pace.rest() == pytest.approx((1 - SHARE) * 30), "it took thirty at most"
    device.wait(device.now + 10)
    assert device.pace.rest() == 0
    device.launch(FULL, 10.0)
    assert device.pace.rest() == pytest.approx((1 - SHARE) * 10)


def test_a_step_behind_another_cannot_have_begun_before_that_was_done(device: Device) -> None:
    device.launch(SMALL, 4.0)
    device.launch(FULL, 10.0)
    device.wait(14.0)
    device.launch(FULL, 10.0)
    assert device.pace.rest() == pytest.approx((1 - SHARE) * 10, abs=0.02)


def test_whose_launches_take_longer_is_given_steps_earlier(device: Device) -> None:
    """Else the device would have nothing to do while the next is launched."""
    launching = 4.0
    device.knows(FULL, 10.0)
    late = []
    for _ in range(200):
        while device.pace.rest() > 0:
            device.wait(device.now + 0.01)
        device.launch(FULL, 10.0, launching)
        late.append(device.free - 10.0 <= device.now)
    assert sum(late[:100]) > 0
    assert sum(late[100:]) <= 10


def test_only_the_last_kinds_are_remembered(device: Device) -> None:
    for number in range(KINDS + 1):
        device.knows(f"kind {number}", 1.0)
    assert device.launch("kind 0", 1.0) == 0
    assert device.launch(f"kind {KINDS}", 1.0) == 1.0


def test_a_cpu_has_done_everything_by_then() -> None:
    pace = Pace(marks(torch.device("cpu")))
    assert not pace
    assert pace.launched(FULL) == 0
    assert pace.rest() == 0
