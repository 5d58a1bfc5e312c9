"""The errors a user of the farm can meet: one small tree, each message says what would be right."""

from collections.abc import Mapping, Sequence

#: what every refusal's message has in it
_MARK = " is not allowed; allowed: "


class FarmError(Exception):
    """Anything the farm refuses or cannot do; the message is written for the person who asked."""


class Refused(FarmError):
    """A value that is not allowed, by field: ``Refused("steps", 0, "a whole number from 1 to 150")``."""

    #: what else was found, which its message tells too
    others: Sequence["Refused"] = ()

    def __init__(self, field: str, value: object, allowed: str) -> None:
        self.field = field
        self.value = value
        self.allowed = allowed
        super().__init__(f"{field}: {_shown(value)}{_MARK}{allowed}")


class Conflict(Refused):
    """An idempotency key that has made a job from another request: ``before`` and ``now``, by their parts."""

    def __init__(self, key: str, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        self.differs = sorted(part for part in {*before, *now} if before.get(part) != now.get(part))
        told = ", ".join(self.differs)
        super().__init__("idempotency_key", key, f"a key of its own for a request that differs in: {told}")


def is_refusal(message: str) -> bool:
    """Whether a `Refused` wrote it: what ended an image was asked for by its user."""
    return _MARK in message


class NotFound(FarmError):
    """A job (or an image of it) that the ledger does not have, or that belongs to another tenant."""


class WireError(FarmError):
    """Bytes that are no message of this farm: another shape, another version, too large."""


class StoreError(FarmError):
    """The object store did not do it.

    Args:
        message: for who runs the farm: it may name the store.
        transient: the same call may work soon.
        missing: the store answers, and there is no such object.
        reason: the same for everyone else, who need not know where the store is; None: as `message`.
    """

    def __init__(
        self, message: str, *, transient: bool, missing: bool = False, reason: str | None = None
    ) -> None:
        self.transient = transient
        self.missing = missing
        self.reason = message if reason is None else reason
        super().__init__(message)


class WorkerError(FarmError):
    """What one worker cannot do for what it has, or is (a file, its device); another one may."""


class Unavailable(FarmError):
    """A server the farm needs (Redis, the store) does not answer.

    Args:
        message: for who runs the farm: it may name the server.
        reason: the same for everyone else; None: as `message`.
    """

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        self.reason = message if reason is None else reason
        super().__init__(message)


def one_line(text: str) -> str:
    """`text` as logs and terminals may show it: what is not printable (line ends, escape sequences, marks
    that turn the direction of writing) is spelt out.

    >>> one_line("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text
    )


def _shown(value: object, limit: int = 200) -> str:
    """``repr`` of a user's value, cut so that a message stays a line."""
    text = repr(value[: limit + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
