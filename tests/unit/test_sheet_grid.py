"""The grid that goes before the pictures of one call: how many rows it has."""

from typing import Any

import pytest

from img2img_gateway.sdapi.option_table import check_option, defaults
from img2img_shared.errors import Refused
from img2img_shared.sheets.grid import GridOptions


@pytest.mark.parametrize(
    ("options", "count", "size"),
    [
        ({}, 1, (1, 1)),
        ({}, 2, (2, 1)),
        ({}, 3, (2, 2)),
        ({}, 6, (3, 2)),
        ({}, 7, (3, 3)),
        ({"n_rows": 1}, 5, (5, 1)),
        ({"n_rows": 9}, 5, (1, 5)),
        ({"n_rows": 0}, 8, (2, 4)),
        ({"grid_prevent_empty_spots": True}, 7, (7, 1)),
        ({"grid_prevent_empty_spots": True}, 6, (3, 2)),
    ],
)
def test_a_grid_has_as_many_rows_as_in_a1111(
    options: dict[str, Any], count: int, size: tuple[int, int]
) -> None:
    assert GridOptions(**options).size(count, batch_size=4) == size


def test_one_picture_has_a_grid_only_where_that_is_set() -> None:
    assert not GridOptions().wants_grid(1)
    assert GridOptions().wants_grid(2)
    assert GridOptions(grid_only_if_multiple=False).wants_grid(1)
    assert not GridOptions(return_grid=False).wants_grid(2)


@pytest.mark.parametrize(
    ("name", "value"), [("n_rows", "many"), ("grid_background_color", "no colour"), ("return_grid", "so so")]
)
def test_what_would_make_no_grid_is_refused(name: str, value: str) -> None:
    with pytest.raises(Refused, match=name):
        check_option(name, value)


def test_the_defaults_are_a1111s() -> None:
    assert GridOptions() == GridOptions.model_validate(dict(defaults()))
