"""What goes over the wire under ``/v1``."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from img2img_gateway.json_route import INPUTS
from img2img_shared.errors import Refused
from img2img_shared.farm.checked_input import checked_input
from img2img_shared.input_fields import sort_fields
from img2img_shared.job import Folder, ImageState, JobName, JobState
from img2img_shared.own_params import OF_THE_JOB
from img2img_shared.params import Params
from img2img_shared.records import Demand, Event, ImageStatus, JobStatus, WorkerStatus
from img2img_shared.refusals import TOLD, finding
from img2img_shared.roles import Role

_REFERENCE = "inputs/" + "0123456789abcdef" * 4
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="

_JOB = "0a32dddf8136d8fc"
_MOMENT = "2026-03-01T12:00:00Z"


def _example(facts: dict[str, Any]) -> ConfigDict:
    """A model's settings: how one looks, for the reference."""
    return ConfigDict(json_schema_extra={"examples": [facts]})


#: a picture as base64 (bare or a data: URL), or the key of one that was uploaded: "inputs/" and its SHA-256
PictureText = Annotated[str, Field(min_length=1, examples=[_REFERENCE])]


def _by_name(schema: dict[str, Any]) -> None:
    """For the reference: pictures by role and parameters may stand by themselves."""
    parameters = Params.model_json_schema(ref_template="#/components/schemas/{model}")["properties"]
    own = {name: each for name, each in parameters.items() if name not in OF_THE_JOB}
    picture = {"type": "string", "minLength": 1, "examples": [_REFERENCE]}
    schema["properties"] |= dict.fromkeys(("image", "mask", "control/0"), picture) | {
        name: {key: value for key, value in each.items() if key != "default"} for name, each in own.items()
    }


class InputItem(BaseModel):
    """One input with what is its own; what is left out, or null, is the job's.

    Pictures by their roles and parameters may stand by themselves: `image`, `mask`, `control/0`, ..., and any
    parameter but those that shape the job (`images_per_input`, `output_format`).
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra=_by_name)

    #: by role: image, mask, control/0, control/1, ...
    pictures: dict[Role, PictureText] = {}
    params: dict[str, Any] = {}
    #: how its outputs are called
    name: Annotated[str, Field(max_length=255)] | None = None
    #: where they are put within the results
    folder: Folder | None = None

    @model_validator(mode="before")
    @classmethod
    def _sorted(cls, values: Any) -> Any:
        return vars(sort_fields(values)) if isinstance(values, dict) else values


def _first_findings(items: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Each item by itself, until there are more findings than anybody reads."""
    if not isinstance(items, list):
        return validate(items)
    params = info.data.get("params")
    pictures = {*info.data.get("pictures", ()), *(["mask"] if info.data.get("mask") else [])}
    found: list[InputItem] = []
    wrong: list[InitErrorDetails] = []
    for index, item in enumerate(items):
        try:
            found += validate([item])
            own = found[-1]
            if params is not None:
                roles = {*pictures, *own.pictures}
                checked_input(params, roles=roles, own=own.params, name=own.name, folder=own.folder)
        except ValidationError as error:
            all_found = error.errors(include_url=False)
            wrong += [_finding((index, *each["loc"][1:]), finding(each)) for each in all_found]
        except Refused as error:
            found_in_it = (error, *error.others)
            wrong += [_finding((index, *each.field.split(".")), each) for each in found_in_it]
        if len(wrong) > TOLD:
            break
    if wrong:
        raise ValidationError.from_exception_data("inputs", wrong)
    return found


def _finding(location: tuple[int | str, ...], error: Refused) -> InitErrorDetails:
    kind = PydanticCustomError("refused", "{reason}", {"reason": error.reason})
    return {"type": kind, "loc": location, "input": error.value}


class WebhookRequest(BaseModel):
    """Where to tell what becomes of a job, signed as Standard Webhooks has it."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, Field(max_length=2000, pattern=r"^https?://")]
    #: what is told: that the job has ended ("done", or "failed" where some image did), or each image
    events: Annotated[list[Literal["done", "failed", "image"]], Field(min_length=1)] = ["done", "failed"]


class JobRequest(BaseModel):
    """``POST /v1/jobs``."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "params": {"prompt": "an oil painting", "denoising_strength": 0.4, "steps": 20},
                    "inputs": [{"image": _PIXEL, "name": "harbour"}],
                }
            ]
        },
    )

    # in this order: inputs are checked together with what stands before them
    params: Params = Params()
    #: for all inputs that bring none
    mask: PictureText | None = None
    #: the same by role: mask, control/0, control/1, ...
    pictures: dict[Role, PictureText] = {}
    inputs: Annotated[list[InputItem], Field(min_length=1, max_length=INPUTS), WrapValidator(_first_findings)]
    #: the checkpoint; left out: the one that is served
    model: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    #: for people, to find the job by
    name: JobName | None = None
    #: higher goes first; left out: 0, or the key's highest where that is lower
    priority: Annotated[int, Field(ge=-100, le=100)] | None = None
    webhook: WebhookRequest | None = None

    def all_pictures(self) -> dict[str, str]:
        """By their roles, those for all inputs that bring none."""
        return self.pictures | ({} if self.mask is None else {"mask": self.mask})


class JobAnswer(BaseModel):
    """Where a job stands. The five counts add up to `n`."""

    model_config = _example(
        {
            "id": _JOB,
            "name": "summer catalogue",
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
            "created": _MOMENT,
            "started": _MOMENT,
            "finished": None,
            "waits_for": None,
        }
    )

    id: str
    #: what its user calls it
    name: str | None = None
    model: str
    priority: int
    state: JobState
    n: int
    pending: int
    running: int
    done: int
    failed: int
    cancelled: int
    #: images that ended per second, of late
    rate: float
    #: seconds to go; null: nothing is left, or too few images have ended to tell
    eta: float | None
    #: seconds by which that is likely wrong, either way
    eta_spread: float | None = None
    created: datetime
    started: datetime | None
    finished: datetime | None
    #: what must happen before any of its images can be begun; null: nothing, or it was not looked up
    waits_for: str | None = None

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

    model_config = _example(
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
    #: index of its input, how that is called, and the file that it was sent as; null: none was told
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

    model_config = _example({"index": 0, "name": "harbour.png", "url": f"/v1/jobs/{_JOB}/images/0/picture"})

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
    """What a call changed: images, or (pause, resume, priority) 1 or 0."""

    model_config = _example({"changed": 1})

    changed: int


class Removed(BaseModel):
    """What was removed with a job."""

    model_config = _example({"removed": 101})

    #: objects of the store: results, and what the job listed
    removed: int


class PriorityRequest(BaseModel):
    """``PUT /v1/jobs/{job}/priority``."""

    model_config = ConfigDict(extra="forbid")

    priority: Annotated[int, Field(ge=-100, le=100, examples=[10])]


class InputAnswer(BaseModel):
    """A picture that was uploaded: `key` may stand for it in any later job."""

    model_config = _example({"key": _REFERENCE, "bytes": 184211})

    key: str
    bytes: int


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
        """How one looks on the wire, for the reference."""
        event = JobEvent(state="done", index=41, attempt=1, reason=None)
        update = cls(state=JobState.RUNNING, n=100, done=42, failed=1, running=8, events=[event])
        return f"event: news\ndata: {update.model_dump_json()}\nid: 1767225600000-0\n\n"


class WorkerAnswer(BaseModel):
    """A live worker."""

    model_config = _example(
        {
            "id": "gpu-1-4711",
            "model": "sd15",
            "device": "cuda",
            "slots": 32,
            "running": 8,
            "seen": _MOMENT,
            "trouble": None,
            "rate": 41.5,
            "uptime": 86_400.0,
            "memory": 5_368_709_120,
            "device_memory": 9_663_676_416,
            "device_memory_total": 25_769_803_776,
        }
    )

    id: str
    model: str
    device: str
    #: most images in flight
    slots: int
    #: images it holds now
    running: int
    seen: datetime
    #: why it claims nothing for now; null: it does
    trouble: str | None
    #: images finished a minute, of late
    rate: float
    #: seconds since it was started
    uptime: float
    #: bytes of its host's memory
    memory: int
    #: bytes of its device's memory that are in use, and in all; 0: it is the host's
    device_memory: int
    device_memory_total: int

    @classmethod
    def of(cls, worker: WorkerStatus) -> Self:
        """Without its jobs and its last error, which may be another tenant's affair."""
        return cls.model_validate({**vars(worker.info), **vars(worker.report), **vars(worker)})


class ModelAnswer(BaseModel):
    """A checkpoint that jobs can name."""

    model_config = _example({"name": "sd15", "workers": 2, "slots": 64})

    name: str
    workers: int
    #: images in flight at once, over its workers
    slots: int


class DemandAnswer(BaseModel):
    """What there is to do for workers of a model, in images of all tenants."""

    model_config = _example({"model": "sd15", "waiting": 240, "later": 0, "running": 32, "images": 272})

    model: str
    #: could be given out now
    waiting: int = 0
    #: wait for their next try
    later: int = 0
    running: int = 0
    #: all of them
    images: int = 0

    @classmethod
    def of(cls, demand: Demand) -> Self:
        """As the ledger has it."""
        return cls(**asdict(demand), images=demand.waiting + demand.later + demand.running)


class SamplerAnswer(BaseModel):
    """A sampler, by A1111's name."""

    model_config = _example(
        {"name": "DPM++ 2M", "aliases": ["k_dpmpp_2m"], "scheduler": "Karras", "options": []}
    )

    name: str
    aliases: list[str]
    #: the schedule that "Automatic" stands for
    scheduler: str
    #: the optional parameters that change its result
    options: list[str]
