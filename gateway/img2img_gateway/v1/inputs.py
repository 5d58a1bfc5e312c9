"""Pictures: uploaded for later jobs, and those that a job's inputs have."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from img2img_gateway.access import Caller
from img2img_gateway.dependencies import Services, ServicesDep
from img2img_gateway.gateway_errors import Problem
from img2img_gateway.pictures import media_type
from img2img_gateway.submit import store_picture
from img2img_gateway.v1.job_answers import InputAnswer, InputList, JobInput
from img2img_gateway.v1.request_fields import UNLIMITED, Index, JobId, Start
from img2img_shared.errors import NotFound, Refused, StoreError
from img2img_shared.farm.originals import read_inputs
from img2img_shared.job import PAGE, Job

router = APIRouter(tags=["inputs"])

Sha256 = Annotated[
    str,
    Path(
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of the picture's bytes, in hexadecimal.",
        examples=["0123456789abcdef" * 4],
    ),
]
RolePath = Annotated[
    str, Path(pattern=r"^(image|mask|control/\d{1,2})$", description="image, mask, control/0, ...")
]

#: for the reference: a request whose body is a file's bytes
BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post(
    "/inputs",
    status_code=201,
    openapi_extra=BODY,
    max_body_size=UNLIMITED,
    summary="Upload a picture",
)
async def put_input(request: Request, services: ServicesDep, caller: Caller) -> InputAnswer:
    """Upload a picture as the request's body. It is kept under its SHA-256, and so once if sent twice."""
    with services.uploads.files(caller.tenant) as new_file:
        sent = new_file()
        async for chunk in request.stream():
            sent.write(chunk)
            if sent.size > services.farm.settings.max_upload:
                raise Problem(
                    413, f"a picture may have {services.farm.settings.max_upload} bytes", field="body"
                )
        if not sent.size:
            raise Refused("body", "", "send the bytes of a picture")
        return InputAnswer(key=await store_picture(services, caller, sent, "body"), bytes=sent.size)


@router.head("/inputs/{sha256}", summary="Check whether a picture was uploaded", status_code=204)
async def has_input(sha256: Sha256, caller: Caller, services: ServicesDep) -> Response:
    """204 if you have uploaded this picture and need not send it again, else 404.

    A picture that is found counts as uploaded now, so it is kept as long as a new one.
    """
    if not await services.farm.call(services.farm.service.intake.refresh, caller.tenant, sha256):
        raise NotFound(f"no upload of yours has the SHA-256 {sha256}")
    return Response(status_code=204)


@router.get("/jobs/{job}/inputs", summary="List a job's inputs")
async def inputs(
    job: JobId,
    caller: Caller,
    services: ServicesDep,
    start: Start = 0,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = 100,
) -> InputList:
    """The inputs of a job: each one's pictures, names and own parameters."""
    found = await services.farm.call(services.farm.ledger.job, job, caller.tenant)
    wanted = range(min(start, found.n_inputs), min(start + limit, found.n_inputs))
    items = await services.farm.call(lambda: list(read_inputs(services.farm.store, found, wanted)))
    listed = [JobInput.of(index, found, item) for index, item in zip(wanted, items, strict=True)]
    return InputList(inputs=listed, next=wanted.stop if wanted.stop < found.n_inputs else None)


@router.get(
    "/jobs/{job}/inputs/{index}/{role:path}",
    summary="Fetch an input's picture",
    response_class=Response,
    responses={200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def input_picture(
    job: JobId, index: Index, role: RolePath, caller: Caller, services: ServicesDep
) -> Response:
    """A picture that an input is rendered from (its image, mask or control picture), as it was uploaded."""
    found = await services.farm.call(services.farm.ledger.job, job, caller.tenant)
    key = await picture_of_input(services, found, index, role)
    try:
        data = await services.farm.call(services.farm.store.get_picture, key)
    except StoreError as error:
        if not error.missing:
            raise
        raise NotFound(f"the picture {role} of input {index} is not kept any more") from None
    return Response(data, media_type=media_type(data))


async def picture_of_input(services: Services, job: Job, index: int, role: str) -> str:
    """The store key of a picture that an input of `job` is rendered from.

    Raises:
        NotFound: there is no such input, or it has none.
    """
    if index >= job.n_inputs:
        raise NotFound(f"job {job.id} has no input {index}")
    (item,) = await services.farm.call(
        lambda: list(read_inputs(services.farm.store, job, range(index, index + 1)))
    )
    key = job.pictures_of(item).get(role)
    if key is None:
        raise NotFound(f"input {index} of job {job.id} has no picture {role}")
    return key
