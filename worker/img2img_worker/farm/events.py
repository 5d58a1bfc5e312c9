"""Events in a worker, for observers: its log, its reports to the ledger, its metrics.

An observer is called in the thread of the event, and must be quick.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from img2img_shared.records import Claim, ExpiredLeases, WorkerInfo

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
    """An image was claimed."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The image's pictures were read, and the engine has it."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """One more of the image's model calls is done."""

    claim: Claim
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """The engine has finished the image; the picture is to be completed and stored."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class StoreFailed:
    """A call to the store failed."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The picture is stored, and the ledger knows."""

    claim: Claim
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The image cannot be rendered, by any worker."""

    claim: Claim
    reason: str
    #: one that nobody foresaw
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True)
class PutBack:
    """The image was put back, for another worker or a better time."""

    claim: Claim
    #: "": nothing was wrong with it, or with this worker
    reason: str
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True)
class LetGo:
    """This worker no longer has the image, whatever happened to it."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class Interrupted:
    """The image is wanted as it is by now."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class Lost:
    """The image no longer belongs to this worker."""

    claim: Claim
    #: its job was; else the lease has run out
    cancelled: bool
    #: the worker that has it now, where that is known
    holder: str | None


@dataclass(frozen=True, kw_only=True)
class TooLate:
    """The report had no effect: another attempt has the image."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class TakenBack:
    """As the janitor, this worker has ended expired leases."""

    leases: ExpiredLeases


@dataclass(frozen=True, kw_only=True)
class OutOfMemory:
    """The device had no room for all images in flight."""

    #: images in flight, at most, for a while
    slots: int
    #: images that left the batch, and wait in the worker
    put_back: int


@dataclass(frozen=True, kw_only=True)
class OutOfService:
    """The worker stops claiming until what it needs works again."""

    reason: str
    #: the same for who runs the farm: it may say where the store is
    detail: str


@dataclass(frozen=True, kw_only=True)
class BackInService:
    """The worker claims again, after so many seconds."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Warned:
    """Something failed temporarily, and will be retried."""

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
    """One observer that calls all of these; an error in one does not affect the others."""

    def tell(event: Event) -> None:
        for observer in observers:
            try:
                observer(event)
            except Exception:
                log.exception("an observer failed at %s", type(event).__name__)

    return tell
