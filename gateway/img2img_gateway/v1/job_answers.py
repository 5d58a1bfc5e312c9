"""What ``/v1`` answers about jobs and their images."""

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel

from img2img_gateway.v1.examples import JOB, MOMENT, REFERENCE, example
from img2img_shared.job import ImageState, Input, Job, JobState, picture_digest
from img2img_shared.records import Event, ImageStatus, JobStatus


class JobAnswer(BaseModel):
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
    #: what its owner calls it
    name: str | None = None
    #: who submitted it: the name of their key
    owner: str | None = None
    tags: list[str] = []
    model: str
    priority: int
    state: JobState
    n: int
    pending: int
    running: int
    done: int
    failed: int
    cancelled: int
    #: images that end per second, of late
    rate: float
    #: seconds to go; null: nothing is left, or too few images have ended to tell
    eta: float | None
    #: seconds by which `eta` is likely to be wrong, either way
    eta_spread: float | None = None
    created: datetime
    started: datetime | None
    finished: datetime | None
    #: what must happen before its next image can begin; null: nothing, or it was not looked up
    waits_for: str | None = None
    #: seconds for which it is kept after its end; null: for ever
    keep: float | None = None
    #: when it is removed, with its results; null: never, or it has not ended
    kept_until: datetime | None = None

    @classmethod
    def of(cls, status: JobStatus) -> Self:
        return cls.model_validate(status, from_attributes=True)


class JobList(BaseModel):
    """A page of the caller's jobs, newest first."""

    jobs: list[JobAnswer]
    #: `start` of the next page; null: this is the last
    next: str | None


class ImageAnswer(BaseModel):
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
    #: tries so far, the running one included
    attempt: int
    #: why it failed
    reason: str | None
    #: index of its input, that input's name, and the path that was sent with it; null: none was sent
    input: int | None = None
    name: str | None = None
    path: str | None = None

    @classmethod
    def of(cls, status: ImageStatus) -> Self:
        return cls.model_validate(status, from_attributes=True)


class ImageList(BaseModel):
    """A page of a job's images, by index."""

    images: list[ImageAnswer]
    #: `start` of the next page; null: this is the last
    next: int | None


class ResultItem(BaseModel):
    """A picture that is done."""

    model_config = example({"index": 0, "name": "harbour.png", "url": f"/v1/jobs/{JOB}/images/0/picture"})

    index: int
    #: file name: the input's, with -2, -3, ... for further outputs
    name: str
    #: presigned where the store can do that, else this gateway's own
    url: str


class ResultList(BaseModel):
    """A page of a job's pictures, by index; those that are not done are left out."""

    results: list[ResultItem]
    #: `start` of the next page; null: this is the last
    next: int | None


class Changed(BaseModel):
    """How much a call changed: a number of images; for pause, resume and priority 1 (changed) or 0."""

    model_config = example({"changed": 1})

    changed: int


class Removed(BaseModel):
    """What was removed from the store with a job."""

    model_config = example({"removed": 101})

    #: objects: its results, and the pages of its list of inputs
    removed: int


class InputAnswer(BaseModel):
    """A picture that was uploaded. Later jobs may name it by its `key`."""

    model_config = example({"key": REFERENCE, "bytes": 184211})

    key: str
    bytes: int


class JobInput(BaseModel):
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
    #: where its owner had it
    path: str | None
    #: keys by role, the job's own included; a later job of yours may name them as its pictures
    pictures: dict[str, str]
    #: the parameters that it has in place of the job's
    params: dict[str, Any]

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


class InputList(BaseModel):
    """A page of a job's inputs."""

    inputs: list[JobInput]
    #: `start` of the next page; null: this is the last
    next: int | None


class JobEvent(BaseModel):
    """Something that happened to an image, or (without `index`) to the job."""

    state: str
    index: int | None
    attempt: int | None
    reason: str | None


class JobUpdate(BaseModel):
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
