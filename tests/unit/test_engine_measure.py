"""The number of slots is found by rendering: as many as pay, as many as memory holds."""

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from img2img_shared.settings import Settings
from img2img_worker.engine.measure import find_slots
from img2img_worker.farm.cli import app
from img2img_worker.models.families.condition import Conditions
from tests.unit.engine_toys import ToyFamily


class Device:
    """A clock, and a device whose calls take a time of its own by rows, and memory for so many rows."""

    def __init__(self, *, call: float, row: float, rows: int = 1000) -> None:
        self.seconds = 0.0
        self._call, self._row, self._rows = call, row, rows

    def __call__(self, x: Tensor, t: Tensor, conditions: Conditions) -> None:
        if len(x) > self._rows:
            raise torch.OutOfMemoryError(f"no room for {len(x)} rows")
        self.seconds += self._call + self._row * len(x)

    def slots(self) -> int:
        family = ToyFamily(before=self)
        return find_slots(family, deterministic=False, side=64, clock=lambda: self.seconds)


def test_slots_grow_until_memory_runs_out() -> None:
    # an image has two rows
    assert Device(call=100, row=1, rows=8).slots() == 4
    assert Device(call=100, row=1, rows=7).slots() == 2
    assert Device(call=100, row=1, rows=2).slots() == 1


def test_slots_grow_until_more_save_nothing() -> None:
    # seconds of an image: 1 slot 6, 2 slots 4, 4 slots 3, 8 slots 2.5
    assert Device(call=4, row=1).slots() == 8
    # 2.5, 2.25, 2.125, 2.06: the last doubling saves less than a twentieth
    assert Device(call=0.5, row=1).slots() == 4
    assert Device(call=0, row=1).slots() == 1


def test_a_device_too_small_for_such_a_picture_still_has_one_slot() -> None:
    assert Device(call=1, row=1, rows=1).slots() == 1


def test_a_model_that_is_broken_is_not_taken_for_short_of_memory() -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("damaged")

    with pytest.raises(RuntimeError, match="damaged"):
        find_slots(ToyFamily(before=fail), side=64)


def test_slots_may_be_a_number_or_auto() -> None:
    assert Settings(slots="auto").slots == "auto"
    assert Settings(slots=3).slots == 3
    for wrong in ("0", "1025", "-1", "many", "²"):
        result = CliRunner().invoke(app, ["--slots", wrong])
        assert result.exit_code == 2
        assert "1 to 1024, or auto" in " ".join(result.output.split())


def test_compiled_sizes_are_given_as_width_and_height() -> None:
    assert Settings(compile="512x768,64x64").compiled_sizes == [(512, 768), (64, 64)]
    assert Settings().compiled_sizes == []
    for wrong in ("512", "512x", "512×512", "512x512;64x64", "5x5"):
        result = CliRunner().invoke(app, ["--compile", wrong])
        assert result.exit_code == 2
        assert "512x512,768x512" in " ".join(result.output.split())
