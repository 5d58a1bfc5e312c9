"""A whole farm: the same as for the faults, but nobody harms it."""

from tests.faults.conftest import farm, fork_server

__all__ = ["farm", "fork_server"]
