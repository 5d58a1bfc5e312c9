"""Who is in flight, and whose turn it is."""

import pytest

from img2img_worker.engine.packer import BatchPacker
from img2img_worker.engine.scheduler import RECOVERY, Scheduler


def filled(slots: Scheduler[str], names: str, group: str = "g") -> None:
    for name in names:
        slots.wait(name)
    for name in slots.next_up():
        slots.enter(name, group)


def test_no_more_are_in_flight_than_there_are_slots() -> None:
    slots: Scheduler[str] = Scheduler(3)
    filled(slots, "abcde")
    assert slots.in_flight == ("a", "b", "c")
    assert slots.waiting == ("d", "e")
    assert slots.next_up() == []


def test_a_freed_slot_goes_to_whoever_waited_longest() -> None:
    slots: Scheduler[str] = Scheduler(2)
    filled(slots, "abcd")
    slots.leave("b")
    assert slots.next_up() == ["c"]


def test_every_member_of_a_group_has_a_turn_with_it() -> None:
    slots: Scheduler[str] = Scheduler(4)
    filled(slots, "ab", "small")
    filled(slots, "c", "large")
    assert slots.turn() == ("small", ["a", "b"])
    assert slots.turn() == ("large", ["c"])
    assert slots.turn() == ("small", ["a", "b"])


def test_no_group_starves_while_others_come_and_go() -> None:
    slots: Scheduler[str] = Scheduler(100)
    filled(slots, "a", "patient")
    waited = 0
    for number in range(60):
        slots.wait(f"{number}")
        for name in slots.next_up():
            slots.enter(name, f"group {number}")
        groups = len(slots)
        turn = slots.turn()
        assert turn is not None
        waited = 0 if turn[0] == "patient" else waited + 1
        assert waited < groups
        if turn[0] != "patient" and number % 3:
            slots.leave(turn[1][0])


def test_a_group_ends_with_its_last_member() -> None:
    slots: Scheduler[str] = Scheduler(4)
    filled(slots, "ab")
    assert slots.leave("a") is False
    assert slots.leave("b") is True
    assert slots.turn() is None
    assert not slots


def test_the_youngest_half_gives_way_when_memory_is_short() -> None:
    slots: Scheduler[str] = Scheduler(8)
    filled(slots, "abcdef")
    back = slots.halve()
    assert back == ["d", "e", "f"]
    for name in back:
        slots.leave(name)
    slots.put_back(back)
    slots.wait("g")
    assert slots.limit == 3
    assert slots.waiting == ("d", "e", "f", "g")


def test_halving_ends_at_one_slot() -> None:
    slots: Scheduler[str] = Scheduler(2)
    filled(slots, "a")
    assert slots.halve() == []
    assert slots.limit == 1


def test_slots_grow_again_after_a_calm_while_up_to_what_they_were() -> None:
    slots: Scheduler[str] = Scheduler(5)
    filled(slots, "abcde")
    for name in slots.halve():
        slots.leave(name)
    assert slots.limit == 2
    limits = []
    for _ in range(3 * RECOVERY):
        slots.turn()
        limits.append(slots.limit)
    assert limits[RECOVERY - 2] == 2
    assert limits[RECOVERY] == 4
    assert limits[-1] == 5


@pytest.mark.parametrize(("n", "padded"), [(1, 1), (2, 2), (3, 4), (5, 8), (8, 8), (33, 64)])
def test_a_call_has_the_least_power_of_two_that_holds_its_rows(n: int, padded: int) -> None:
    assert list(BatchPacker(most=64).calls([range(n)])) == [(list(range(n)), padded - n)]


def test_images_share_calls_and_more_rows_than_one_holds_make_several() -> None:
    assert list(BatchPacker(most=4).calls(["ab", "cd", "ef", "ghi"])) == [
        (["a", "b", "c", "d"], 0),
        (["e", "f", "g", "h"], 0),
        (["i"], 0),
    ]


def test_fixed_rows_never_change() -> None:
    assert list(BatchPacker(most=64, fixed=3).calls(["ab", "cd", "e", "fg"])) == [
        (["a", "b", "c"], 0),
        (["d", "e", "f"], 0),
        (["g"], 2),
    ]


def test_apart_no_two_images_share_a_call() -> None:
    assert list(BatchPacker(most=2, apart=True).calls(["ab", "c", "def"])) == [
        (["a", "b"], 0),
        (["c"], 0),
        (["d", "e"], 0),
        (["f"], 0),
    ]


@pytest.mark.parametrize(("most", "fixed"), [(0, None), (4, 0)])
def test_a_call_without_rows_is_refused(most: int, fixed: int | None) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        BatchPacker(most=most, fixed=fixed)


def test_an_engine_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Scheduler(0)


def test_the_row_counts_are_those_that_calls_can_have() -> None:
    assert BatchPacker(most=6).counts == (1, 2, 4, 8)
    assert BatchPacker(most=16, fixed=5).counts == (5,)
    assert BatchPacker(most=16, apart=True).counts == (1, 2)
