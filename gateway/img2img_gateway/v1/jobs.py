"""Jobs: submitted, listed, told of, stopped and started."""

from collections.abc import AsyncIterator, Mapping
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response

from img2img_gateway.access import Caller, Principal
from img2img_gateway.dependencies import Services, ServicesDep
from img2img_gateway.json_route import JsonRoute
from img2img_gateway.multipart import read_parts
from img2img_gateway.submit import Sent, SentInput, write
from img2img_gateway.v1.form import Form
from img2img_gateway.v1.job_answers import Changed, ImageAnswer, ImageList, JobAnswer, JobList, Removed
from img2img_gateway.v1.job_request import JobRequest, KeepRequest, PriorityRequest, WebhookRequest
from img2img_shared.durations import read_duration
from img2img_shared.errors import NotFound
from img2img_shared.farm.job_filter import JobFilter
from img2img_shared.farm.originals import with_names
from img2img_shared.farm.submission import Submission
from img2img_shared.job import ImageState, JobState, Tag
from img2img_shared.ledger import IMAGES
from img2img_shared.params import Params

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=JsonRoute)

JobId = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9_-]{8,64}$", description="As submitting gave it.", examples=["0a32dddf8136d8fc"]
    ),
]
Start = Annotated[int, Query(ge=0, le=100_000_000)]
Index = Annotated[int, Path(ge=0, le=100_000_000)]
Key = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="A repeat of a request with the same key gives the first job. Ask again with it "
        "after a 503: whether the job was written is not known then. Another request with it is a 409.",
    ),
]

Once = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="A repeat of a call with the same key, within ten minutes, has no further effect and is "
        "answered as the first was. Ask again with it after a 503, or where no answer came.",
    ),
]

#: images that are looked through for one page of those in a state
LOOKED_THROUGH = 20_000
#: bytes: a form is limited by picture and by their number, since it never lies in memory
UNLIMITED = 2**62

_REPEATED: dict[int | str, dict[str, Any]] = {200: {"model": JobAnswer, "description": "A repeat."}}
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "mask": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "control/0": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "For the first control unit; control/1 for the second, ...",
                        },
                        "params": {
                            "type": "string",
                            "description": "Parameters as one JSON object; after an `image`, its own.",
                        },
                        "model": {"type": "string"},
                        "name": {"type": "string", "description": "For people, to find the job by."},
                        "tags": {"type": "string", "description": "The same, as words with commas between."},
                        "keep": {"type": "string", "description": "How long it stays after its end: 30d."},
                        "priority": {"type": "integer", "minimum": -100, "maximum": 100},
                        "webhook": {"type": "string", "description": "A webhook as JSON."},
                    },
                },
                "example": {
                    "params": '{"prompt": "an oil painting", "denoising_strength": 0.4, "steps": 20}',
                    "image": ["harbour.jpg", "coast.jpg"],
                },
            }
        },
    }
}


@router.post("", status_code=201, responses=_REPEATED, summary="Submit a job as JSON")
async def submit(
    body: JobRequest,
    response: Response,
    caller: Caller,
    services: ServicesDep,
    idempotency_key: Key = None,
) -> JobAnswer:
    """Submit pictures as base64, or by the keys of ones that were uploaded."""
    submission = await services.farm.begin(
        caller.tenant,
        body.model,
        body.params,
        name=body.name,
        owner=caller.owner,
        tags=body.tags,
        keep=caller.allowed_keep(body.keep),
        priority=caller.allowed_priority(body.priority),
        idempotency_key=idempotency_key,
        webhook=body.webhook.model_dump_json() if body.webhook else None,
    )
    return await _written(
        services, caller, response, submission, _inputs(body), body.all_pictures(), body.webhook
    )


@router.post(
    "/upload",
    status_code=201,
    responses=_REPEATED,
    summary="Submit a job as a form",
    openapi_extra=_FORM,
    max_body_size=UNLIMITED,
)
async def upload(
    request: Request,
    response: Response,
    caller: Caller,
    services: ServicesDep,
    idempotency_key: Key = None,
) -> JobAnswer:
    """Submit pictures as a multipart form, which is stored as it comes.

    Fields first: `model`, `name`, `tags`, `keep`, `priority`, `webhook` (JSON), `params` (JSON), and any
    parameter by its name. Then the pictures as `image`, as many as you like. What follows an `image` is its
    own: a `mask`, pictures for control units (`control/0`, `control/1`, ...), and as JSON in `params` any
    parameter but those that shape the job (`images_per_input`, `output_format`). A mask or a control picture
    before the first `image` is for all that bring none.
    """
    with services.uploads.files(caller.tenant) as new_file:
        form = Form(read_parts(request, services.farm.settings.max_upload, new_file))
        head = await form.read_head()
        submission = await services.farm.begin(
            caller.tenant,
            head.model,
            head.params,
            name=head.name,
            owner=caller.owner,
            tags=head.tags,
            keep=caller.allowed_keep(head.keep),
            priority=caller.allowed_priority(head.priority),
            idempotency_key=idempotency_key,
            webhook=head.webhook.model_dump_json() if head.webhook else None,
        )
        inputs = form.inputs()
        return await _written(services, caller, response, submission, inputs, head.pictures, head.webhook)


@router.get("", summary="List your jobs")
async def jobs(
    caller: Caller,
    services: ServicesDep,
    start: Annotated[str, Query(max_length=100, description="What the page before gave as `next`.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    search: Annotated[str | None, Query(description="In their names or ids.")] = None,
    state: Annotated[list[JobState] | None, Query(description="One of these.")] = None,
    model: Annotated[str | None, Query()] = None,
    owner: Annotated[str | None, Query(description="Who submitted them.")] = None,
    tag: Annotated[list[Tag] | None, Query(description="All of these.")] = None,
) -> JobList:
    """Your jobs, newest first. Where only some are asked for, a page may have few, or none, and a `next`."""
    wanted = JobFilter(
        search=search, states=tuple(state or ()), model=model, owner=owner, tags=tuple(tag or ())
    )
    page = await services.farm.call(services.farm.service.page_of_jobs, caller.tenant, wanted, start, limit)
    return JobList(jobs=[JobAnswer.of(status) for status in page.jobs], next=page.next)


@router.get("/{job}", summary="See where a job stands")
async def job(job: JobId, caller: Caller, services: ServicesDep) -> JobAnswer:
    """Where a job stands."""
    return JobAnswer.of(await services.farm.call(services.farm.service.status, job, caller.tenant))


@router.get("/{job}/params", summary="See a job's parameters")
async def params(job: JobId, caller: Caller, services: ServicesDep) -> Params:
    """The parameters it was submitted with, with the seeds that were drawn."""
    return (await services.farm.call(services.farm.ledger.job, job, caller.tenant)).params


@router.get("/{job}/images", summary="List a job's images")
async def images(
    job: JobId,
    caller: Caller,
    services: ServicesDep,
    start: Start = 0,
    limit: Annotated[int, Query(ge=1, le=IMAGES)] = 100,
    state: Annotated[ImageState | None, Query(description="Those alone that are so.")] = None,
) -> ImageList:
    """Where its images stand, by index. Where only some are asked for, a page may have few, and a `next`."""
    total = (await services.farm.call(services.farm.ledger.status, job, caller.tenant)).n
    wanted = range(start, min(start + (limit if state is None else LOOKED_THROUGH), total))
    found = await services.farm.call(_images, services, caller, job, wanted, limit, state)
    end = found[-1].index + 1 if len(found) == limit else wanted.stop
    return ImageList(images=found, next=end if end < total else None)


@router.get("/{job}/images/{index}", summary="See where an image stands")
async def image(job: JobId, index: Index, caller: Caller, services: ServicesDep) -> ImageAnswer:
    """Where one image stands, with `index` counting from 0."""
    found = await services.farm.call(_images, services, caller, job, range(index, index + 1), 1, None)
    if not found:
        raise NotFound(f"job {job} has no image {index}")
    return found[0]


@router.post("/{job}/cancel", summary="Cancel a job")
async def cancel(job: JobId, caller: Caller, services: ServicesDep, once: Once = None) -> Changed:
    """End it: running images stop between two steps. Tells how many are thereby not rendered."""
    call = services.farm.service.cancel
    return Changed(changed=await services.farm.call(call, job, caller.tenant, caller.owner, once))


@router.delete("/{job}", summary="Remove a job")
async def remove(job: JobId, caller: Caller, services: ServicesDep, once: Once = None) -> Removed:
    """Forget a job that has ended, with its results. Its inputs go later, if no other job names them."""
    call = services.farm.service.remove
    return Removed(removed=await services.farm.call(call, job, caller.tenant, caller.owner, once))


@router.post("/{job}/pause", summary="Pause a job")
async def pause(job: JobId, caller: Caller, services: ServicesDep, once: Once = None) -> Changed:
    """Begin no further image of it; running ones go on."""
    call = services.farm.service.pause
    return Changed(changed=await services.farm.call(call, job, caller.tenant, caller.owner, once))


@router.post("/{job}/resume", summary="Resume a paused job")
async def resume(job: JobId, caller: Caller, services: ServicesDep, once: Once = None) -> Changed:
    """Go on with it."""
    call = services.farm.service.resume
    return Changed(changed=await services.farm.call(call, job, caller.tenant, caller.owner, once))


@router.post("/{job}/retry", summary="Retry a job's failed images")
async def retry(job: JobId, caller: Caller, services: ServicesDep, once: Once = None) -> Changed:
    """Give its failed images another chance; tells how many these are."""
    call = services.farm.service.retry
    return Changed(changed=await services.farm.call(call, job, caller.tenant, caller.owner, once))


@router.put("/{job}/priority", summary="Change a job's priority")
async def priority(
    job: JobId, body: PriorityRequest, caller: Caller, services: ServicesDep, once: Once = None
) -> Changed:
    """Let it go before those of lower priority, from the next image on."""
    priority = caller.allowed_priority(body.priority)
    call = services.farm.service.set_priority
    return Changed(changed=await services.farm.call(call, job, caller.tenant, priority, caller.owner, once))


@router.put("/{job}/keep", summary="Change how long a job is kept")
async def keep(
    job: JobId, body: KeepRequest, caller: Caller, services: ServicesDep, once: Once = None
) -> JobAnswer:
    """Let it, its results and what it was made from stay so long after its end."""
    wanted = read_duration(caller.allowed_keep(body.keep))
    await services.farm.call(services.farm.service.set_keep, job, caller.tenant, wanted, caller.owner, once)
    return JobAnswer.of(await services.farm.call(services.farm.service.status, job, caller.tenant))


async def _written(
    services: Services,
    caller: Principal,
    response: Response,
    submission: Submission,
    inputs: AsyncIterator[SentInput],
    pictures: Mapping[str, Sent],
    webhook: WebhookRequest | None,
) -> JobAnswer:
    hook = None if webhook is None else await services.hooks.checked(webhook.url, webhook.events)
    written = await write(services, caller, submission, inputs, pictures, hook)
    response.headers["Location"] = f"/v1/jobs/{written.id}"
    if written.repeated:
        response.status_code = 200
    return JobAnswer.of(await services.farm.call(services.farm.ledger.status, written.id, caller.tenant))


def _images(
    services: Services, caller: Principal, job_id: str, wanted: range, limit: int, state: ImageState | None
) -> list[ImageAnswer]:
    job = services.farm.ledger.job(job_id, caller.tenant)
    found = services.farm.service.images(job, wanted)
    fitting = islice((image for image in found if state in (None, image.state)), limit)
    return [ImageAnswer.of(image) for image in with_names(services.farm.store, job, fitting)]


async def _inputs(body: JobRequest) -> AsyncIterator[SentInput]:
    for item in body.inputs:
        yield SentInput(
            pictures=item.pictures, params=item.params, name=item.name, folder=item.folder, path=item.path
        )
