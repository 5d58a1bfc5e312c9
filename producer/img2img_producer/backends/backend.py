"""What a client needs of a farm, whichever way it reaches it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from img2img_producer.backends.models_backend import ModelsBackend
from img2img_producer.backends.operator_backend import OperatorBackend
from img2img_producer.inputs import Picture, Source
from img2img_shared.farm.job_filter import JobFilter
from img2img_shared.farm.originals import Originals
from img2img_shared.job import Job
from img2img_shared.params import Params
from img2img_shared.records import Event, ImageStatus, JobStatus, WorkerStatus


class Feed(Protocol):
    """What happens to a job from now on. Whoever asks where it stands after this was made misses nothing."""

    def next(self, wait: float) -> list[Event]:
        """The next events, oldest first, some hundreds at most; none if none came within `wait` seconds.

        Raises:
            Unavailable: the farm stays away.
        """

    def all(self, wait: float) -> list[Event]:
        """All events there are, after waiting up to `wait` seconds for the first."""


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """A job but for its pictures, as `Farm.submit` takes it."""

    model: str | None
    params: Params
    name: str | None
    tags: tuple[str, ...]
    #: None: as the farm says
    keep: str | float | None
    priority: int
    idempotency_key: str | None


class Backend(Protocol):
    """One tenant's way to a farm. Its methods raise `NotFound` for a job that the tenant does not have, and
    `Unavailable` where the farm does not answer."""

    @property
    def where(self) -> str:
        """Which farm it is, for people."""

    @property
    def is_embedded(self) -> bool:
        """Whether it lives in a folder of this machine and ends with the programs that use it."""

    @property
    def operator(self) -> OperatorBackend:
        """What its operator does with it, by the same way."""

    @property
    def models(self) -> ModelsBackend:
        """The models in its store."""

    def submit(
        self,
        inputs: Iterable[Picture],
        pictures: Mapping[str, Source],
        wanted: JobOptions,
        progress: Callable[[int], None] | None,
    ) -> str:
        """As `Farm.submit`; `inputs` is read as it goes.

        Args:
            pictures: by their roles, for all inputs that bring none.
        """

    def job(self, job_id: str) -> Job:
        """The job as it was written."""

    def status(self, job_id: str) -> JobStatus:
        """Where it stands, and what it waits for if it does."""

    def watched(self, job_id: str) -> JobStatus:
        """The same for somebody who looks at it again and again."""

    def feed(self, job_id: str) -> AbstractContextManager[Feed]:
        """Its events, for as long as the context is open."""

    def images(self, job: Job, start: int) -> list[ImageStatus]:
        """Where its images stand from `start` on, by index: `IMAGES` of them, or as many as there are."""

    def named_images(self, job: Job) -> Iterator[ImageStatus]:
        """All of them, with their inputs' names and paths."""

    def originals(self, job: Job) -> Originals:
        """What its results are called, and what they never overwrite."""

    def picture(self, job: Job, index: int) -> bytes:
        """The encoded picture of an image that is done.

        Raises:
            StoreError: it is not there any more, or cannot be read.
        """

    def preview(self, job_id: str, index: int) -> bytes | None:
        """As `Farm.preview`."""

    def cancel(self, job_id: str) -> int:
        """How many images are thereby not rendered."""

    def pause(self, job_id: str) -> bool:
        """Whether that changed anything."""

    def resume(self, job_id: str) -> bool:
        """Whether that changed anything."""

    def retry(self, job_id: str) -> int:
        """How many images get another chance."""

    def set_priority(self, job_id: str, priority: int) -> bool:
        """Whether that changed anything."""

    def set_keep(self, job_id: str, keep: float | None) -> None:
        """So many seconds; None: for ever."""

    def find(self, wanted: JobFilter) -> Iterator[JobStatus]:
        """The jobs that fit, newest first."""

    def remove(self, job_id: str) -> int:
        """How many objects of the store these were."""

    def workers(self) -> list[WorkerStatus]:
        """Those that live."""

    def serve(self, model: str) -> None:
        """On an embedded farm, have a worker for `model` soon."""

    def supervise(self, model: str) -> None:
        """On an embedded farm, look after that worker.

        Raises:
            Unavailable: it does not start.
        """

    def close(self) -> None:
        """Let go of the farm."""
