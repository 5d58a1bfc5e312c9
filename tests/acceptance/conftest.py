"""A whole farm, the same as for the faults, but without faults."""

from tests.faults.conftest import farm, fork_server

__all__ = ["farm", "fork_server"]
