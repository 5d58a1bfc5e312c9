"""What happens in a worker, told to whoever listens: its log, its report to the ledger, metrics.

An observer is called in the thread in which it happens, and must be quick.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from img2img_shared.records import Claim, Sweep, WorkerInfo

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The worker has its checkpoint and begins to claim."""

    worker: WorkerInfo
    family: str
    #: what it takes, for people
    memory: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """An image is in hand."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The engine has it: its pictures are there and read."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """One more of its model calls is done."""

    claim: Claim
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """The engine has done its part: what is left is to finish and store the picture."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class StoreFailed:
    """The store did not do what it was asked, or not now."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Its picture is stored, and the ledger has heard of it."""

    claim: Claim
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Failed:
    """It cannot be rendered, by anybody."""

    claim: Claim
    reason: str
    #: one that nobody foresaw
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True)
class PutBack:
    """It waits for another worker, or a better time."""

    claim: Claim
    #: "": nothing was wrong with it, or with this worker
    reason: str
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True)
class LetGo:
    """It is in hand no more, whatever became of it."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class Interrupted:
    """Somebody wants it as it is by now."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class Lost:
    """It is not this worker's any more."""

    claim: Claim
    #: its job was; else the lease has run out
    cancelled: bool
    #: the worker that has it now, where that is known
    holder: str | None


@dataclass(frozen=True, kw_only=True)
class TooLate:
    """It was reported in vain: another attempt has it."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class TakenBack:
    """As the janitor, this worker has ended leases that ran out."""

    sweep: Sweep


@dataclass(frozen=True, kw_only=True)
class OutOfMemory:
    """The device had no room for all that was in flight."""

    #: images in flight, at most, for a while
    slots: int
    #: images that left the batch, and wait in the worker
    put_back: int


@dataclass(frozen=True, kw_only=True)
class OutOfService:
    """The worker claims nothing more until what it needs works again."""

    reason: str
    #: the same for who runs the farm: it may say where the store is
    detail: str


@dataclass(frozen=True, kw_only=True)
class BackInService:
    """It claims again, after so many seconds."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Warned:
    """Something failed in passing, and is tried again."""

    text: str
    #: what it counts as where the same happens again and again; "": the text
    like: str = ""
    #: one that nobody foresaw
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The worker has ended."""

    worker: WorkerInfo


Event = (
    Loaded
    | Claimed
    | Prepared
    | Stepped
    | Rendered
    | StoreFailed
    | Finished
    | Failed
    | PutBack
    | LetGo
    | Interrupted
    | Lost
    | TooLate
    | TakenBack
    | OutOfMemory
    | OutOfService
    | BackInService
    | Warned
    | Ended
)

Observer = Callable[[Event], None]


def tell_all(*observers: Observer) -> Observer:
    """One observer that tells all of these; what goes wrong with one is nobody else's trouble."""

    def tell(event: Event) -> None:
        for observer in observers:
            try:
                observer(event)
            except Exception:
                log.exception("an observer failed at %s", type(event).__name__)

    return tell
