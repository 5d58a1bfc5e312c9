"""Who is in flight, and whose turn it is."""

import pytest

from img2img_worker.engine.packer import BatchPacker
from img2img_worker.engine.scheduler import RECOVERY, Scheduler
from img2img_worker.engine.switching import AT_LEAST, MOST, Switching


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


def turn(slots: Scheduler[str]) -> list[str]:
    """A turn in which all that could have a part in it had one."""
    members = slots.turn()
    slots.served(members)
    return members


def test_every_member_of_a_group_has_a_turn_with_it() -> None:
    slots: Scheduler[str] = Scheduler(4)
    filled(slots, "ab", "small")
    filled(slots, "c", "large")
    assert turn(slots) == ["a", "b"]
    assert turn(slots) == ["c"]
    assert turn(slots) == ["a", "b"]


def test_a_group_may_stay_until_nothing_is_left_of_it() -> None:
    slots: Scheduler[str] = Scheduler(4)
    filled(slots, "ab", "ink")
    filled(slots, "c", "gold")
    assert turn(slots) == ["a", "b"]
    assert slots.turn(stays=True) == ["a", "b"]
    slots.leave("a")
    slots.leave("b")
    assert slots.turn(stays=True) == ["c"]


def test_the_calls_after_a_change_of_weights_take_several_times_as_long_as_it_did() -> None:
    switching = Switching()
    assert not switching.stays
    switching.called(0.1 + AT_LEAST * 0.1, 0.1)
    assert not switching.stays
    switching.called(0.6, 0.1)
    assert switching.stays
    switching.called(0.4, 0)
    assert switching.stays
    switching.called(0.2, 0)
    assert not switching.stays
    switching.called(100 + MOST - 0.1, 100)
    assert switching.stays
    switching.called(0.1, 0)
    assert not switching.stays


def urgency(name: str) -> int:
    """Capitals are urgent."""
    return 10 * name.isupper()


def test_an_urgent_one_takes_the_youngest_slot_and_the_others_rest_until_it_is_done() -> None:
    slots: Scheduler[str] = Scheduler(3, urgency)
    filled(slots, "abcd")
    slots.wait("U")
    assert [*slots.waiting] == ["U", "d"]
    assert slots.outranked() == ["c"]
    slots.leave("c")
    slots.put_back(["c"])
    assert [*slots.waiting] == ["U", "c", "d"]
    assert slots.next_up() == ["U"]
    slots.enter("U", "g")
    assert slots.outranked() == []
    assert [turn(slots) for _ in range(3)] == [["U"]] * 3
    slots.leave("U")
    assert slots.next_up() == ["c"]
    slots.enter("c", "g")
    assert turn(slots) == ["a", "b", "c"]


def test_urgent_ones_take_no_slot_from_their_like_and_none_that_is_not_needed() -> None:
    slots: Scheduler[str] = Scheduler(3, urgency)
    filled(slots, "a")
    filled(slots, "V")
    for name in "UWXb":
        slots.wait(name)
    assert slots.outranked() == ["a"]
    slots.leave("a")
    slots.put_back(["a"])
    assert slots.next_up() == ["U", "W"]
    slots.enter("U", "g")
    slots.enter("W", "g")
    assert slots.outranked() == []
    assert slots.waiting == ("X", "a", "b")


def test_two_urgent_ones_take_two_slots_but_none_of_their_like() -> None:
    slots: Scheduler[str] = Scheduler(3, urgency)
    filled(slots, "ab")
    filled(slots, "V")
    for name in "UWX":
        slots.wait(name)
    assert slots.outranked() == ["a", "b"]


def test_who_left_and_has_a_slot_again_has_turns_again() -> None:
    slots: Scheduler[str] = Scheduler(1)
    filled(slots, "a")
    slots.rest("a")
    slots.leave("a")
    slots.enter("a", "g")
    assert turn(slots) == ["a"]


def test_those_that_would_rest_wait_for_their_slots() -> None:
    slots: Scheduler[str] = Scheduler(3, urgency)
    filled(slots, "U")
    slots.wait("a")
    assert slots.next_up() == []
    slots.leave("U")
    assert slots.next_up() == ["a"]


def test_short_memory_takes_slots_from_those_that_are_less_urgent() -> None:
    slots: Scheduler[str] = Scheduler(4, urgency)
    filled(slots, "ab")
    filled(slots, "UV")
    assert slots.halve() == ["a", "b"]


def test_one_that_wants_no_turn_any_more_keeps_its_slot() -> None:
    slots: Scheduler[str] = Scheduler(3)
    filled(slots, "abcd")
    slots.rest("b")
    assert turn(slots) == ["a", "c"]
    assert slots.next_up() == []
    slots.leave("b")
    assert slots.next_up() == ["d"]
    slots.rest("a")
    slots.rest("c")
    assert turn(slots) == []


def test_no_more_join_than_are_wanted() -> None:
    slots: Scheduler[str] = Scheduler(3)
    for name in "abcd":
        slots.wait(name)
    assert slots.next_up(2) == ["a", "b"]


def test_those_that_had_no_part_in_a_turn_come_first_in_the_next() -> None:
    slots: Scheduler[str] = Scheduler(4)
    filled(slots, "abc")
    assert slots.turn() == ["a", "b", "c"]
    slots.served(["a", "b"])
    assert turn(slots) == ["c", "a", "b"]


def test_one_that_moves_to_another_group_keeps_the_time_it_waited() -> None:
    slots: Scheduler[str] = Scheduler(4)
    filled(slots, "ab", "small")
    filled(slots, "c", "large")
    slots.turn()
    slots.served(["a"])
    slots.move("b", "large")
    assert turn(slots) == ["b", "c"]
    assert turn(slots) == ["a"]


def test_no_group_starves_while_others_come_and_go() -> None:
    slots: Scheduler[str] = Scheduler(100)
    filled(slots, "a", "patient")
    waited = 0
    for number in range(60):
        slots.wait(f"{number}")
        for name in slots.next_up():
            slots.enter(name, f"group {number}")
        groups = len(slots)
        members = turn(slots)
        waited = 0 if members == ["a"] else waited + 1
        assert waited < groups
        if members != ["a"] and number % 3:
            slots.leave(members[0])


def test_without_anyone_in_flight_there_is_no_turn() -> None:
    slots: Scheduler[str] = Scheduler(4)
    filled(slots, "ab")
    slots.leave("a")
    assert turn(slots) == ["b"]
    slots.leave("b")
    assert turn(slots) == []
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


def test_a_call_is_not_filled_up_where_nothing_is_compiled() -> None:
    assert [BatchPacker(most=64).padding(n) for n in (1, 3, 33, 64)] == [0, 0, 0, 0]


@pytest.mark.parametrize(("n", "padded"), [(1, 1), (2, 2), (3, 3), (5, 6), (7, 8), (33, 48), (49, 64)])
def test_a_compiled_call_is_filled_up_to_the_next_graph(n: int, padded: int) -> None:
    assert BatchPacker(most=64, compiled=True).padding(n) == padded - n


def test_images_share_calls_as_far_as_their_rows_fit_in() -> None:
    assert BatchPacker(most=6).pack([2, 2, 1]) == [2, 2, 1]
    assert BatchPacker(most=6).pack([2, 2, 2, 1]) == [2, 2, 2, 0]


def test_an_image_of_many_rows_leaves_the_others_theirs_and_takes_what_they_leave() -> None:
    assert BatchPacker(most=8).pack([33, 2, 2, 2]) == [2, 2, 2, 2]
    assert BatchPacker(most=8).pack([33, 2, 1]) == [5, 2, 1]
    assert BatchPacker(most=8).pack([33]) == [8]


def test_an_image_has_the_same_part_of_a_call_in_any_company() -> None:
    packer = BatchPacker(most=6, own=4)
    assert packer.pack([2, 1, 2, 1, 2]) == [2, 1, 2, 1, 0]
    assert packer.pack([7, 3, 2]) == [4, 0, 2]
    assert [packer.pack([rows]) for rows in (2, 3, 7)] == [[2], [3], [4]]
    assert packer.padding(1) == 0


@pytest.mark.parametrize(("most", "own"), [(0, None), (4, 0)])
def test_a_call_without_rows_is_refused(most: int, own: int | None) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        BatchPacker(most=most, own=own)


def test_an_engine_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Scheduler(0)


def test_the_row_counts_are_those_that_there_are_graphs_for() -> None:
    assert BatchPacker(most=6).counts == ()
    assert BatchPacker(most=6, compiled=True).counts == (1, 2, 3, 4, 6)
    assert BatchPacker(most=10, compiled=True).counts == (1, 2, 3, 4, 6, 8, 10)
    assert BatchPacker(most=16, compiled=True, own=4).counts == (1, 2)
