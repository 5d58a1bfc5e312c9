"""The ledger's answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from img2img_shared.checkpoints import identity
from img2img_shared.job import ImageState, JobState


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One attempt at one image, held by a worker for as long as it renews the lease."""

    job_id: str
    tenant: str
    index: int
    #: fencing token: 1 for the first try at this image, then counting
    attempt: int
    model: str
    worker: str
    #: names this attempt among all attempts; who holds it can ask for a lost reply again
    nonce: str
    #: a worker died on this image: nothing else may run beside it in this process
    alone: bool
    #: seconds since its job was submitted
    waited: float = field(default=0.0, compare=False)
    #: its job's, when it was claimed
    priority: int = field(default=0, compare=False)


@dataclass(frozen=True, kw_only=True)
class Urgent:
    """What full workers are told of an image that is more urgent than all others that wait."""

    priority: int
    #: nothing else waits: there may be workers with threads left
    is_only: bool


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A claim that must stop: its job was cancelled or interrupted, or another worker has its lease."""

    claim: Claim
    #: True: the lease is still held, `release` it; False: nothing is left to report
    cancelled: bool
    #: True: the lease is still held, `finish` the image as it is by now
    interrupted: bool = False


@dataclass(frozen=True, kw_only=True)
class ExpiredLeases:
    """The leases that the janitor has taken back in one round, by what happens to their images."""

    #: the workers are alive; the images can be claimed again
    handed_back: int = 0
    #: the workers have died
    suspects: int = 0
    #: too many workers have died on the images
    failed: int = 0


@dataclass(frozen=True, kw_only=True)
class Demand:
    """How many images there are to render for one model."""

    model: str
    #: could be given out now
    waiting: int
    #: wait for their next try
    later: int
    running: int


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """The state of a job. The five counts add up to `n`."""

    id: str
    tenant: str
    model: str
    priority: int
    state: JobState
    n: int
    pending: int
    running: int
    done: int
    failed: int
    cancelled: int
    #: images that ended per second, of late; once the job has ended, over all its time. Pauses do not count
    rate: float
    #: seconds until the last image ends at this rate; None: nothing is left, or too few have ended to tell
    eta: float | None
    #: seconds by which that is likely wrong, either way
    eta_spread: float | None = None
    created: datetime
    started: datetime | None
    finished: datetime | None
    #: what its user calls it
    name: str | None = None
    #: who submitted it
    owner: str | None = None
    tags: tuple[str, ...] = ()
    #: seconds for which its results are kept after its end; None: for ever
    keep: float | None = None
    #: what must happen before any of its images can be begun; None: nothing, or nobody has looked
    waits_for: str | None = None
    #: steps that are done of its running images, and all that these have; None: it is not known
    steps: tuple[int, int] | None = None
    #: how much of its running images is done by their steps, in images
    under_way: float = 0.0

    @property
    def kept_until(self) -> datetime | None:
        """When it is removed, with its results; None: never, or it has not ended."""
        if self.finished is None or self.keep is None:
            return None
        return self.finished + timedelta(seconds=self.keep)


@dataclass(frozen=True, kw_only=True)
class JobPage:
    """Some jobs of a tenant, newest first."""

    jobs: list[JobStatus]
    #: where the next page begins; None: this is the last
    next: str | None


@dataclass(frozen=True, kw_only=True)
class JobChanges:
    """The jobs of a tenant that have changed since the last call."""

    #: what to ask with next time: milliseconds of Redis' clock
    until: int
    #: False: that is too long ago, and all jobs must be looked at
    is_whole: bool
    #: there are more by now
    has_more: bool
    jobs: list[JobStatus]
    #: ids of those that were removed
    gone: list[str]


@dataclass(frozen=True, kw_only=True)
class ImageStatus:
    """The state of an image."""

    index: int
    state: ImageState
    #: tries so far, the running one included
    attempt: int
    #: who renders it now
    worker: str | None = None
    #: why it failed
    reason: str | None = None
    #: index of the input it is made from, how that is called and where its user had it; None: the ledger
    #: does not know, the store does (`originals.with_names`)
    input: int | None = None
    name: str | None = None
    path: str | None = None


@dataclass(frozen=True, kw_only=True)
class Event:
    """A change to a job or one of its images, with the job's counters right after it."""

    #: counts up within a job; what server-sent events call Last-Event-ID
    id: str
    #: of the image, or (without `index`) of the job
    state: ImageState | JobState
    index: int | None
    attempt: int | None
    reason: str | None
    job_state: JobState
    n: int
    done: int
    failed: int
    running: int


@dataclass(frozen=True, kw_only=True)
class WorkerInfo:
    """A worker process, as it describes itself."""

    #: new for each process, so that one that was restarted is not taken for the one that died
    id: str
    #: that it has loaded, or is loading
    model: str
    device: str
    #: most images in flight
    slots: int
    #: name of the checkpoint's file or folder; "": an older worker, which does not say
    file_name: str = ""
    #: of the checkpoint, hexadecimal
    sha256: str | None = None
    #: of the VAE that it renders with where an image names none; None: the checkpoint's own
    vae_sha256: str | None = None
    #: parameters that it takes and most checkpoints do not
    takes: tuple[str, ...] = ()
    #: of img2img-farm; "": an older worker, which does not say
    version: str = ""
    #: models that it loads when they are wanted, and the names of their files or folders
    others: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def models(self) -> list[str]:
        """All models that it serves, the loaded one first."""
        return [self.model, *(name for name in self.others if name != self.model)]

    @property
    def identity(self) -> str | None:
        """See `img2img_shared.checkpoints.identity`."""
        return self.sha256 and identity(self.sha256, self.vae_sha256)


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """A worker process' figures, which it sends with every beat."""

    #: why it claims nothing for now; None: it does
    trouble: str | None = None
    #: whether its model is only just being loaded
    loading: bool = False
    #: of which it has images in hand, some of them at most
    jobs: tuple[str, ...] = ()
    #: images it has finished, and those that failed here
    done: int = 0
    failed: int = 0
    #: images finished a minute, of late
    rate: float = 0.0
    #: seconds since it was started
    uptime: float = 0.0
    #: bytes of the host's memory
    memory: int = 0
    #: bytes of its device's memory that are in use, and in all; 0: it is the host's
    device_memory: int = 0
    device_memory_total: int = 0
    #: models that it could load but for a while does not, and why
    aside: Mapping[str, str] = field(default_factory=dict, hash=False)
    #: SHA-256 of the files that it has fetched from the store and keeps
    fetched: tuple[str, ...] = ()
    #: what went wrong last, and how many seconds ago
    last_error: str | None = None
    last_error_ago: float = 0.0


class WorkerOrder(StrEnum):
    """An operator's order to a worker."""

    DISABLE = "disable"  # it claims nothing more, and stays
    DRAIN = "drain"  # it claims nothing more, and ends when what it has in hand is done


@dataclass(frozen=True, kw_only=True)
class Heard:
    """The ledger's answer to a worker's beat."""

    #: the name of its model stands for another checkpoint by now, and it must end
    is_replaced: bool
    order: WorkerOrder | None
    #: images that it could not do and others have done, ever since it began
    outdone: int


@dataclass(frozen=True, kw_only=True)
class WorkerStatus:
    """A live worker as the ledger sees it."""

    info: WorkerInfo
    report: WorkerReport
    #: images it holds now
    running: int
    seen: datetime


def known_fields(record: type[Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The values for which a record has fields: a newer version may have written more."""
    names = {each.name for each in fields(record)}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in facts.items()
        if name in names
    }


def moment(milliseconds: bytes) -> datetime:
    """A time of the ledger, which counts milliseconds of Redis' clock."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
