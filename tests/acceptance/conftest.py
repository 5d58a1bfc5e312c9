"""A whole farm: the same as for the faults, but nobody harms it."""

from tests.faults.conftest import farm, nursery

__all__ = ["farm", "nursery"]
