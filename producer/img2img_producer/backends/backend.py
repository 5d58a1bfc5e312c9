"""The interface through which a client uses a farm, whichever way it is connected."""

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
    """The events of a job from now on. A status that is read after creating it leaves no gap."""

    def next(self, wait: float) -> list[Event]:
        """The next events, oldest first, at most some hundreds; none if there are none within `wait` seconds.

        Raises:
            Unavailable: the farm does not come back.
        """

    def all(self, wait: float) -> list[Event]:
        """All events there are, after waiting up to `wait` seconds for the first."""


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """A job without its pictures, as `Farm.submit` takes it."""

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
        """Whether the farm is in a folder of this machine, and ends with the programs that use it."""

    @property
    def operator(self) -> OperatorBackend:
        """The operator's calls, by the same connection."""

    @property
    def models(self) -> ModelsBackend:
        """The models in the farm's store."""

    def submit(
        self,
        inputs: Iterable[Picture],
        pictures: Mapping[str, Source],
        wanted: JobOptions,
        progress: Callable[[int], None] | None,
    ) -> str:
        """Like `Farm.submit`; `inputs` is read as it is needed.

        Args:
            pictures: by their roles, for all inputs without one in that role.
        """

    def job(self, job_id: str) -> Job:
        """The job as it was submitted."""

    def status(self, job_id: str) -> JobStatus:
        """The job's status, with what it waits for."""

    def watched(self, job_id: str) -> JobStatus:
        """Like `status`, for callers that call it repeatedly."""

    def feed(self, job_id: str) -> AbstractContextManager[Feed]:
        """The job's events, for as long as the context is open."""

    def images(self, job: Job, start: int) -> list[ImageStatus]:
        """The states of its images from `start` on, by index: `IMAGES` of them, or as many as there are."""

    def named_images(self, job: Job) -> Iterator[ImageStatus]:
        """The states of all images, with their inputs' names and paths."""

    def originals(self, job: Job) -> Originals:
        """What its results need to know of its inputs: names, and files not to overwrite."""

    def picture(self, job: Job, index: int) -> bytes:
        """The encoded picture of a finished image.

        Raises:
            StoreError: it is no longer there, or cannot be read.
        """

    def preview(self, job_id: str, index: int) -> bytes | None:
        """Like `Farm.preview`."""

    def cancel(self, job_id: str) -> int:
        """End a job; returns how many images will therefore not be rendered."""

    def pause(self, job_id: str) -> bool:
        """Pause a job; returns whether that changed anything."""

    def resume(self, job_id: str) -> bool:
        """Resume a job; returns whether that changed anything."""

    def retry(self, job_id: str) -> int:
        """Render a job's failed images again; returns how many these are."""

    def set_priority(self, job_id: str, priority: int) -> bool:
        """Change a job's priority; returns whether that changed anything."""

    def set_keep(self, job_id: str, keep: float | None) -> None:
        """Keep a job for so many seconds after its end; None: forever."""

    def find(self, wanted: JobFilter) -> Iterator[JobStatus]:
        """The jobs that fit, newest first."""

    def remove(self, job_id: str) -> int:
        """Remove a job; returns how many objects were removed from the store."""

    def workers(self) -> list[WorkerStatus]:
        """All live workers."""

    def serve(self, model: str) -> None:
        """On an embedded farm, start a worker for `model`."""

    def supervise(self, model: str) -> None:
        """On an embedded farm, check on that worker.

        Raises:
            Unavailable: it does not start.
        """

    def close(self) -> None:
        """Close the connection."""
