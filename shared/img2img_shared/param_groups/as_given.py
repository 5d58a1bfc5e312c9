"""Numbers that keep how they were written."""

from collections.abc import Iterator
from typing import Any

from annotated_types import GroupedMetadata
from pydantic import PlainSerializer, ValidatorFunctionWrapHandler, WrapValidator


class AsGiven(GroupedMetadata):
    """Of a number that texts tell as it was given, 1 or 1.0: it is sent so, too."""

    def __iter__(self) -> Iterator[object]:
        yield WrapValidator(_as_given)
        yield PlainSerializer(lambda value: value, return_type=int | float | None)


def _as_given(given: Any, check: ValidatorFunctionWrapHandler) -> Any:
    checked = check(given)
    return given if type(given) is int else checked
