"""Submitting a job: as JSON, or as a multipart form of any size."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from img2img_gateway.access import Caller, Principal
from img2img_gateway.dependencies import Services, ServicesDep
from img2img_gateway.json_route import JsonRoute
from img2img_gateway.multipart import read_parts
from img2img_gateway.submit import Sent, SentInput, write
from img2img_gateway.v1.form import Form, Head
from img2img_gateway.v1.job_answers import JobAnswer
from img2img_gateway.v1.job_request import JobRequest, WebhookRequest
from img2img_gateway.v1.request_fields import UNLIMITED, SubmissionKey
from img2img_shared.farm.submission import Submission

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=JsonRoute)

_REPEATED: dict[int | str, dict[str, Any]] = {
    200: {"model": JobAnswer, "description": "A repeat: the job was submitted before."}
}
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
                            "description": "Parameters as a JSON object; after an `image`, its own.",
                        },
                        "model": {"type": "string"},
                        "name": {"type": "string", "description": "For people to find the job by."},
                        "tags": {
                            "type": "string",
                            "description": "Words to find it by, separated by commas.",
                        },
                        "keep": {"type": "string", "description": "How long it is kept after its end: 30d."},
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
    idempotency_key: SubmissionKey = None,
) -> JobAnswer:
    """Submit a job whose pictures are base64, or keys of pictures that were uploaded."""
    submission = await _begin(services, caller, body, idempotency_key)
    return await _write(
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
    idempotency_key: SubmissionKey = None,
) -> JobAnswer:
    """Submit a job as a multipart form, whose pictures are stored as they arrive.

    Send fields first: `model`, `name`, `tags`, `keep`, `priority`, `webhook` (JSON), `params` (JSON), and any
    parameter by its name. Then send the pictures, each as `image`, as many as you like. Parts that follow an
    `image` belong to it alone: a `mask`, pictures for control units (`control/0`, `control/1`, ...), and in
    `params` (JSON) any parameter except those of the whole job (`images_per_input`, `output_format`). A mask
    or a control picture before the first `image` is for all images that have none of their own.
    """
    with services.uploads.files(caller.tenant) as new_file:
        form = Form(read_parts(request, services.farm.settings.max_upload, new_file))
        head = await form.read_head()
        submission = await _begin(services, caller, head, idempotency_key)
        inputs = form.inputs()
        return await _write(services, caller, response, submission, inputs, head.pictures, head.webhook)


async def _begin(
    services: Services, caller: Principal, wanted: JobRequest | Head, idempotency_key: str | None
) -> Submission:
    return await services.farm.begin(
        caller.tenant,
        wanted.model,
        wanted.params,
        name=wanted.name,
        owner=caller.owner,
        tags=wanted.tags,
        keep=caller.allowed_keep(wanted.keep),
        priority=caller.allowed_priority(wanted.priority),
        idempotency_key=idempotency_key,
        webhook=wanted.webhook.model_dump_json() if wanted.webhook else None,
    )


async def _write(
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


async def _inputs(body: JobRequest) -> AsyncIterator[SentInput]:
    for item in body.inputs:
        yield SentInput(
            pictures=item.pictures, params=item.params, name=item.name, folder=item.folder, path=item.path
        )
