"""The errors a user of the farm can meet. Each message says what would be right."""

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from reprlib import Repr

#: how a refusal begins: the fields' names, "is" or "are", the value, and after a colon what to do
_REFUSAL = re.compile(r"[a-z_][\w.\[\]/]*(, [a-z_]\w*)* (is|are) .+: ", re.DOTALL)


class FarmError(Exception):
    """Anything the farm refuses or cannot do; the message is written for the person who asked."""


class Summary(str):
    """A text that stands for a value in messages: ``Summary("a file of 12 bytes")``."""

    __slots__ = ()


class Refused(FarmError):
    """A value that cannot be used.

    Args:
        field: its name; of several that contradict each other, all names, with commas between them.
        value: as it was given. Bytes are not shown, and what is long is shortened.
        reason: what is wrong with it where that is not plain, and what to do.
        others: further refusals, which the message also gives.

    >>> print(Refused("steps", 0, "give a whole number from 1 to 150"))
    steps is 0: give a whole number from 1 to 150
    >>> print(Refused("image", b"GIF8", "give a picture"))
    image is data of 4 bytes: give a picture
    """

    def __init__(self, field: str, value: object, reason: str, others: Sequence["Refused"] = ()) -> None:
        self.field = field
        self.value = value
        self.reason = reason
        self.others = tuple(others)
        verb = "are" if ", " in field else "is"
        own = f"{one_line(field)} {verb} {_shown(value)}: {reason}"
        super().__init__("; ".join([own, *map(str, others)]))

    def under(self, prefix: str) -> "Refused":
        """The same refusal for a part: with ``inputs[3].`` before the field's name."""
        others = [other.under(prefix) for other in self.others]
        return Refused(prefix + self.field, self.value, self.reason, others)


class Conflict(Refused):
    """An idempotency key was used before, for a request that `differs` in these parts."""

    def __init__(self, key: str, differs: Iterable[str]) -> None:
        self.differs = sorted(differs)
        told = ", ".join(self.differs)
        reason = (
            f"it belongs to a job from another request; use a new key, for this request differs in: {told}"
        )
        super().__init__("idempotency_key", key, reason)


def is_refusal(message: str) -> bool:
    """Whether `message` is that of a `Refused`: the image failed because of what its user asked for."""
    return _REFUSAL.match(message) is not None


class NotFound(FarmError):
    """A job (or an image of it) that the ledger does not have, or that belongs to another tenant."""


class WireError(FarmError):
    """Bytes that are not a message of this farm: of another format or version, or too large."""


class StoreError(FarmError):
    """The object store failed to do something.

    Args:
        message: for who runs the farm: it may name the store.
        transient: the same call may succeed later.
        mendable: it succeeds once whoever runs the farm has mended a clock, credentials, rights or
            the place.
        missing: the store answered that there is no such object.
        reason: the same for everyone else, who need not know where the store is; None: as `message`.
    """

    def __init__(
        self,
        message: str,
        *,
        transient: bool,
        mendable: bool = False,
        missing: bool = False,
        reason: str | None = None,
    ) -> None:
        self.transient = transient
        self.mendable = mendable
        self.missing = missing
        self.reason = message if reason is None else reason
        super().__init__(message)


class WorkerError(FarmError):
    """Something this worker cannot do because of its files or device; another worker may be able to."""


class Unavailable(FarmError):
    """A server the farm needs (Redis, the store) does not answer.

    Args:
        message: for who runs the farm: it may name the server.
        reason: the same for everyone else; None: as `message`.
    """

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        self.reason = message if reason is None else reason
        super().__init__(message)


class NoWorkers(Unavailable):
    """No worker serves any model, and the caller cannot wait; that may pass."""

    def __init__(self) -> None:
        super().__init__("no worker serves any model, for now")


def one_line(text: str) -> str:
    """`text` as logs and terminals may show it: what is not printable (line ends, escape sequences, marks
    that turn the direction of writing) is spelt out.

    >>> one_line("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text
    )


class _Short(Repr):
    """``repr`` that keeps a message readable: bytes are counted, and the rest is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = 200
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 8

    def repr_bytes(self, value: bytes | bytearray, _level: int) -> str:
        return f"data of {len(value):,} bytes"

    repr_bytearray = repr_bytes

    def repr_int(self, value: int, level: int) -> str:
        if value.bit_length() > 200:  # Python refuses to write out the longest
            return f"a number of {value.bit_length():,} bits"
        return super().repr_int(value, level)


def _shown(value: object) -> str:
    """A user's value, as a message shows it."""
    if isinstance(value, Summary):
        return str(value)
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return "missing"
    if isinstance(value, str | bytes | list | tuple | dict) and not value:
        return "empty"
    return _Short().repr(value)
