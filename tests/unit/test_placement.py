"""Which model a worker loads: by what waits, who has what, and what a load costs."""

from typing import Any

import pytest

from bench.placement import compare
from img2img_shared.placement import MOST_PATIENCE, ModelDemand, Placement, Position, WaitingImages

LOADS = {"load_seconds": 10.0, "image_seconds": 1.0}


def demand(
    model: str, images: int = 0, *, priority: int = 0, tenant: str = "t", **fields: Any
) -> ModelDemand:
    waiting = (WaitingImages(priority=priority, tenant=tenant, images=images),) if images else ()
    return ModelDemand(model=model, waiting=waiting, **{**LOADS, **fields})


def choice(model: str | None, *demands: ModelDemand, **fields: Any) -> str | None:
    models = [each.model for each in demands]
    position = Position(model=model, **{"models": models, "stayed": 1e6, **fields})
    return Placement(demands).next_model(position)


def test_a_worker_without_a_model_takes_what_waits() -> None:
    assert choice(None, demand("a"), demand("b", 3)) == "b"
    assert choice(None, demand("a"), demand("b")) is None


def test_one_whose_model_has_nothing_to_do_takes_what_nobody_has() -> None:
    assert choice("a", demand("a", workers=1), demand("b", 1)) == "b"


def test_a_second_worker_does_not_load_a_model_for_three_images() -> None:
    assert choice("a", demand("a", workers=1), demand("b", 3, workers=1)) is None
    assert choice("a", demand("a", workers=1), demand("b", 300, workers=1)) == "b"


def test_what_cannot_be_loaded_here_is_left_to_others() -> None:
    assert choice("a", demand("a", workers=1), demand("b", 3), models=["a"]) is None


def test_of_what_waits_the_highest_priority_is_taken() -> None:
    assert choice("a", demand("a", workers=1), demand("b", 99), demand("c", 1, priority=5)) == "c"


def test_an_urgent_job_of_an_unloaded_model_takes_a_busy_worker_once_no_idle_one_came() -> None:
    def taken(starved: float) -> str | None:
        return choice(
            "a",
            demand("a", 1000, workers=1),
            demand("b", 1, priority=1, starved=starved),
            is_busy=True,
            stayed=0.0,
        )

    assert taken(starved=0.5) is None
    assert taken(starved=3.0) == "b"


def test_who_has_images_in_hand_leaves_what_nobody_has_to_an_idle_one_at_first() -> None:
    own = demand("a", workers=1)
    assert choice("a", own, demand("b", 1, starved=0.5)) == "b"
    assert choice("a", own, demand("b", 1, starved=0.5), is_busy=True) is None
    assert choice("a", own, demand("b", 1, starved=3.0), is_busy=True) == "b"


def test_of_models_that_nobody_has_the_one_that_waited_longest_is_taken() -> None:
    own = demand("a", workers=1)
    assert choice("a", own, demand("b", 9, starved=3.0), demand("c", 1, starved=9.0)) == "c"


def test_a_model_gets_no_further_worker_for_less_than_two_loads_of_work() -> None:
    def taken(images: int) -> bool:
        return choice("b", demand("a", images, workers=1), demand("b", 5, workers=9)) == "a"

    assert not taken(39)
    assert taken(40)  # 20 seconds for each of two workers


def test_what_is_less_urgent_takes_nobody_away() -> None:
    assert choice("a", demand("a", 1000, priority=1, workers=9), demand("b", 1000, starved=1e6)) is None


def test_a_rare_model_waits_until_a_load_is_worth_it_and_no_longer_than_five_minutes() -> None:
    def taken(starved: float, workers: int) -> bool:
        return choice("a", demand("a", 10**6, workers=workers), demand("b", 1, starved=starved)) == "b"

    assert not taken(starved=19.0, workers=10)
    assert taken(starved=20.0, workers=10)  # two loads are then a tenth of the time of ten workers
    assert taken(starved=5.0, workers=1000)
    assert not taken(starved=100.0, workers=1)
    assert taken(starved=MOST_PATIENCE, workers=1)


def test_the_last_worker_of_a_model_leaves_a_rare_one_to_those_that_others_can_spare() -> None:
    rare = demand("b", 1, starved=12.0)
    crowd = demand("c", 10**6, workers=19)
    assert choice("a", demand("a", 10**6, workers=1), rare, crowd) is None
    assert choice("c", demand("a", 10**6, workers=1), rare, crowd) == "b"


def test_a_model_with_much_work_gets_more_workers() -> None:
    much, little = demand("much", 9000, workers=1), demand("little", 1000, workers=3)
    assert choice("little", much, little) == "much"
    assert choice("much", much, little) is None


def test_tenants_share_the_workers_whatever_they_have_waiting() -> None:
    mine, theirs = (
        demand("mine", 10**6, tenant="a", workers=2),
        demand("theirs", 10**4, tenant="b", workers=2),
    )
    assert choice("mine", mine, theirs) is None
    assert choice("theirs", mine, theirs) is None


def test_a_worker_stays_until_its_load_was_worth_it() -> None:
    much, little = demand("much", 9000, workers=1), demand("little", 1000, workers=3)
    assert choice("little", much, little, stayed=99.0) is None
    assert choice("little", much, little, stayed=99.0, load_seconds={"little": 1.0}) == "much"


@pytest.mark.parametrize("start", [0, 10, 20])
def test_workers_that_move_one_after_the_other_come_to_rest(start: int) -> None:
    has = {"a": start, "b": 20 - start}
    moves = 0
    while moves < 100:
        now = [demand(name, 60_000 if name == "a" else 40_000, workers=has[name]) for name in has]
        moving = [(name, to) for name in has if has[name] and (to := choice(name, *now))]
        if not moving:
            break
        name, to = moving[0]
        has[name], has[to] = has[name] - 1, has[to] + 1
        moves += 1
    assert moves < 20
    assert 8 <= has["a"] <= 14


def test_on_a_farm_of_many_models_images_wait_less_than_with_any_simple_policy() -> None:
    outcomes = compare(workers=30, n_models=20, seconds=900, load=0.8)
    means = {}
    for name, outcome in outcomes.items():
        waits = [seconds for each in outcome.waits.values() for seconds in each]
        means[name] = sum(waits) / len(waits)
    ours = outcomes["by demand (ours)"]
    assert min(means, key=means.__getitem__) == "by demand (ours)"
    assert ours.rendering == max(each.rendering for each in outcomes.values())
    # asked for each second, and the worker that goes has an image to finish
    assert 0 < ours.starved < MOST_PATIENCE + 10
