"""Models that a worker does without for a while."""

from types import SimpleNamespace

import pytest

from img2img_shared.errors import Refused
from img2img_worker.farm.models_set_aside import FIRST_PAUSE, LONGEST_PAUSE, ModelsSetAside


def test_a_model_is_left_alone_for_longer_each_time_until_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr("img2img_worker.farm.models_set_aside.time", clock)
    aside, error = ModelsSetAside(), Refused("model", "alpha", "the share is away")
    assert aside.may_try("alpha")
    pauses = []
    for _ in range(8):
        pauses.append(aside.add("alpha", error))
        assert not aside.may_try("alpha")
        assert aside.reasons({"alpha", "beta"}) == {"alpha": str(error)}
        assert aside.reasons({"beta"}) == {}
        now += pauses[-1]
        assert aside.may_try("alpha")
        assert "alpha" in aside, "so that its worker goes on to another"
    assert pauses == [FIRST_PAUSE * 2**number for number in range(6)] + [LONGEST_PAUSE] * 2
    assert {aside.add("alpha", error) for _ in range(1100)} == {LONGEST_PAUSE}, "for weeks"
    aside.forget("alpha")
    assert "alpha" not in aside
    assert aside.add("alpha", error) == FIRST_PAUSE
