"""What one image of a job was refused for, the next are at once, until that may have changed."""

import pytest

from img2img_shared.errors import Refused
from img2img_worker.farm.recent_refusals import HOLDS, RecentRefusals

LOST = Refused("lora", "lost", "unknown LoRA")


def test_the_next_image_of_the_job_is_refused_as_the_one_before() -> None:
    refusals = RecentRefusals()
    refusals.check("a")
    refusals.note("a", LOST)
    with pytest.raises(Refused) as refused:
        refusals.check("a")
    assert str(refused.value) == str(LOST)
    refusals.check("b")


def test_after_a_while_it_is_tried_again_whoever_was_refused_meanwhile() -> None:
    now = 0.0
    refusals = RecentRefusals(lambda: now)
    refusals.note("a", LOST)
    now = HOLDS - 1
    with pytest.raises(Refused):
        refusals.check("a")
    refusals.note("a", LOST)
    now = HOLDS
    refusals.check("a")


@pytest.mark.parametrize("error", [Refused("image", b"GIF8", "give a picture"), ValueError("lora")])
def test_what_is_the_images_own_fault_says_nothing_of_others(error: Exception) -> None:
    refusals = RecentRefusals()
    refusals.note("a", error)
    refusals.check("a")


def test_so_many_jobs_are_remembered() -> None:
    refusals = RecentRefusals()
    for number in range(2000):
        refusals.note(str(number), LOST)
    assert len(refusals._by_job) < 300
    with pytest.raises(Refused):
        refusals.check("1999")
