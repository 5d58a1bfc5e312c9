"""Errors of the gateway itself, besides the farm's."""

from collections.abc import Mapping


class Problem(Exception):
    """A request that the gateway itself refuses, with its HTTP status."""

    def __init__(
        self, status: int, detail: str, *, field: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        self.field = field
        self.headers = dict(headers or {})
        super().__init__(detail)
