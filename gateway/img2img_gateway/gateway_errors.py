"""What the gateway itself refuses, beside the farm."""

from collections.abc import Mapping


class Problem(Exception):
    """Something the gateway itself refuses, with its HTTP status."""

    def __init__(
        self, status: int, detail: str, *, field: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        self.field = field
        self.headers = dict(headers or {})
        super().__init__(detail)
