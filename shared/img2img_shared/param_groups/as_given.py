"""Numbers that remember how they were written."""

from collections.abc import Iterator
from typing import Any

from annotated_types import GroupedMetadata
from pydantic import PlainSerializer, ValidatorFunctionWrapHandler, WrapValidator


class AsGiven(GroupedMetadata):
    """Marks a number that texts show as it was written, 1 or 1.0, and that is sent that way, too."""

    def __iter__(self) -> Iterator[object]:
        yield WrapValidator(_as_given)
        yield PlainSerializer(lambda value: value, return_type=int | float | None)


def _as_given(given: Any, check: ValidatorFunctionWrapHandler) -> Any:
    checked = check(given)
    return given if type(given) is int else checked
