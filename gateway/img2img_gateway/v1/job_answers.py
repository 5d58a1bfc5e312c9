"""What ``/v1`` answers about jobs and their images."""

from datetime import datetime
from typing import Any, Self

from img2img_gateway.v1.api_model import ApiModel
from img2img_gateway.v1.examples import JOB, MOMENT, REFERENCE, example
from img2img_shared.job import ImageState, Input, Job, JobState, picture_digest
from img2img_shared.records import Event, ImageStatus, JobStatus


class JobAnswer(ApiModel):
    """Where a job stands. The five counts add up to `n`."""

    model_config = example(
        {
            "id": JOB,
            "name": "summer catalogue",
            "owner": "alice",
            "tags": ["client=acme"],
            "model": "sd15",
            "priority": 0,
            "state": "running",
            "n": 100,
            "pending": 58,
            "running": 8,
            "done": 33,
            "failed": 1,
            "cancelled": 0,
            "rate": 2.5,
            "eta": 26.4,
            "eta_spread": 4.3,
            "created": MOMENT,
            "started": MOMENT,
            "finished": None,
            "waits_for": None,
            "keep": 2_592_000.0,
            "kept_until": None,
        }
    )

    id: str
    name: str | None = None
    """What its owner calls it."""
    owner: str | None = None
    """Who submitted it: the name of their key."""
    tags: list[str] = []
    model: str
    priority: int
    state: JobState
    n: int
    """How many images it has."""
    pending: int
    running: int
    done: int
    failed: int
    cancelled: int
    rate: float
    """Images that end per second, of late; once the job has ended, over all its time. Pauses do not count."""
    eta: float | None
    """Seconds to go; null: nothing is left, or too few images have ended to tell."""
    eta_spread: float | None = None
    """Seconds by which `eta` is likely to be wrong, either way."""
    created: datetime
    started: datetime | None
    finished: datetime | None
    waits_for: str | None = None
    """What must happen before its next image can begin; null: nothing, or it was not looked up."""
    keep: float | None = None
    """Seconds for which it is kept after its end; null: for ever."""
    kept_until: datetime | None = None
    """When it is removed, with its results; null: never, or it has not ended."""

    @classmethod
    def of(cls, status: JobStatus) -> Self:
        return cls.model_validate(status, from_attributes=True)


class JobList(ApiModel):
    """A page of the caller's jobs, newest first."""

    jobs: list[JobAnswer]
    next: str | None
    """`start` of the next page; null: this is the last."""


class ImageAnswer(ApiModel):
    """Where an image stands."""

    model_config = example(
        {
            "index": 7,
            "state": "failed",
            "attempt": 1,
            "reason": "image is a file of 12 bytes: give a picture: PNG, JPEG or WebP",
            "input": 7,
            "name": "harbour",
            "path": "harbour.gif",
        }
    )

    index: int
    state: ImageState
    attempt: int
    """Tries so far, the running one included."""
    reason: str | None
    """Why it failed."""
    input: int | None = None
    """Index of its input."""
    name: str | None = None
    """The input's name; null: none was sent."""
    path: str | None = None
    """The path that was sent with the input; null: none was sent."""

    @classmethod
    def of(cls, status: ImageStatus) -> Self:
        return cls.model_validate(status, from_attributes=True)


class ImageList(ApiModel):
    """A page of a job's images, by index."""

    images: list[ImageAnswer]
    next: int | None
    """`start` of the next page; null: this is the last."""


class ResultItem(ApiModel):
    """A picture that is done."""

    model_config = example({"index": 0, "name": "harbour.png", "url": f"/v1/jobs/{JOB}/images/0/picture"})

    index: int
    name: str
    """File name: the input's, with -2, -3, ... for further outputs."""
    url: str
    """Presigned where the store can do that, else this gateway's own."""


class ResultList(ApiModel):
    """A page of a job's pictures, by index; those that are not done are left out."""

    results: list[ResultItem]
    next: int | None
    """`start` of the next page; null: this is the last."""


class Changed(ApiModel):
    """How much a call changed: a number of images; for pause, resume and priority 1 (changed) or 0."""

    model_config = example({"changed": 1})

    changed: int


class Removed(ApiModel):
    """What was removed from the store with a job."""

    model_config = example({"removed": 101})

    removed: int
    """Objects: its results, and the pages of its list of inputs."""


class InputAnswer(ApiModel):
    """A picture that was uploaded. Later jobs may name it by its `key`."""

    model_config = example({"key": REFERENCE, "bytes": 184211})

    key: str
    bytes: int


class JobInput(ApiModel):
    """One input of a job, with its own pictures and parameters."""

    model_config = example(
        {
            "index": 7,
            "name": "harbour",
            "folder": None,
            "path": "harbour.jpg",
            "pictures": {"image": REFERENCE},
            "params": {"prompt": "a harbour in fog"},
        }
    )

    index: int
    name: str | None
    folder: str | None
    path: str | None
    """Where its owner had it."""
    pictures: dict[str, str]
    """Keys by role, the job's own included; a later job of yours may name them as its pictures."""
    params: dict[str, Any]
    """The parameters that it has in place of the job's."""

    @classmethod
    def of(cls, index: int, job: Job, item: Input) -> Self:
        keys = job.pictures_of(item)
        return cls(
            index=index,
            name=item.name,
            folder=item.folder,
            path=item.path,
            pictures={role: f"inputs/{picture_digest(key)}" for role, key in keys.items()},
            params=item.params,
        )


class InputList(ApiModel):
    """A page of a job's inputs."""

    inputs: list[JobInput]
    next: int | None
    """`start` of the next page; null: this is the last."""


class JobEvent(ApiModel):
    """Something that happened to an image, or (without `index`) to the job."""

    state: str
    index: int | None
    attempt: int | None
    reason: str | None


class JobUpdate(ApiModel):
    """One server-sent event: the job's counters now, and what happened since the one before."""

    state: JobState
    n: int
    done: int
    failed: int
    running: int
    events: list[JobEvent]

    @classmethod
    def of(cls, events: list[Event]) -> Self:
        latest = events[-1]
        return cls(
            state=latest.job_state,
            n=latest.n,
            done=latest.done,
            failed=latest.failed,
            running=latest.running,
            events=[JobEvent.model_validate(each, from_attributes=True) for each in events],
        )

    @classmethod
    def example(cls) -> str:
        """One event as it is sent, for the reference."""
        event = JobEvent(state="done", index=41, attempt=1, reason=None)
        update = cls(state=JobState.RUNNING, n=100, done=42, failed=1, running=8, events=[event])
        return f"event: news\ndata: {update.model_dump_json()}\nid: 1767225600000-0\n\n"
