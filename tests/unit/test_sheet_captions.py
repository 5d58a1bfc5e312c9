"""Captions of sheets, as large as A1111's."""

import pytest

from img2img_gateway.sdapi.scripts.xyz_values import numbers, split, written
from img2img_shared.sheets.captions import Caption, captioned_size


@pytest.mark.parametrize(
    ("text", "cell", "height"),
    [("a harbour", (64, 64), 8), ("at night", (64, 64), 9), ("at night", (256, 256), 39), ("", (64, 64), 0)],
)
def test_a_row_of_captions_is_as_high_as_in_a1111(text: str, cell: tuple[int, int], height: int) -> None:
    assert captioned_size([[Caption(text)]], [[Caption("")]], cell) == (cell[0], cell[1] + height)


def test_long_captions_are_wrapped() -> None:
    _, one = captioned_size([[Caption("sea")]], [[Caption("")]], (64, 64))
    _, many = captioned_size([[Caption("a sea of words without an end in sight")]], [[Caption("")]], (64, 64))
    assert many > one


def test_numbers_are_written_as_ranges_too() -> None:
    assert numbers("-2-2", int, "x") == [-2, -1, 0, 1, 2]
    assert numbers("5-1 (-2)", int, "x") == [5, 3, 1]
    assert numbers("1-2 [3]", float, "x") == [1.0, 1.5, 2.0]
    assert numbers("3-9 [1]", int, "x") == [3]
    assert split(written(["a, b", 'say "c"'])) == ["a, b", 'say "c"']
