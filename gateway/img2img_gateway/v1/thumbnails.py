"""Thumbnails of a job's results and inputs."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from img2img_gateway.access import Caller
from img2img_gateway.dependencies import Services, ServicesDep
from img2img_gateway.v1.inputs import RolePath, picture_of_input
from img2img_gateway.v1.request_fields import Index, JobId
from img2img_gateway.v1.results import job_and_image
from img2img_shared.errors import NotFound, StoreError
from img2img_shared.job import ImageState, Job, result_key

router = APIRouter(prefix="/jobs", tags=["results"])

#: the first so many images of a job are searched for pictures that can represent it
LOOKED_AT = 1000

Size = Annotated[int, Query(ge=32, le=512, description="Width and height in pixels, at most.")]
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}}},
    204: {"description": "There is none: the image is not done, or its picture cannot be shown."},
    304: {"description": "It has not changed (`If-None-Match`)."},
}


@router.get(
    "/{job}/thumbnail",
    summary="Fetch a job's thumbnail",
    response_class=Response,
    responses=_PICTURE,
)
async def job_thumbnail(
    job: JobId,
    request: Request,
    caller: Caller,
    services: ServicesDep,
    size: Size = 128,
    number: Annotated[int, Query(ge=0, le=9, description="Which of its first pictures.")] = 0,
) -> Response:
    """A small WebP of one of a job's first results; while it has none, of its first input."""
    farm = services.farm
    found = await farm.call(farm.ledger.job, job, caller.tenant)
    states = await farm.call(farm.ledger.images, job, caller.tenant, 0, LOOKED_AT)
    done = [image.index for image in states if image.state is ImageState.DONE]
    if number < len(done):
        return await _thumbnail(services, request, _result(found, done[number]), size)
    if number or done:
        return Response(status_code=204)
    return await _of_input(services, request, found, 0, "image", size)


@router.get(
    "/{job}/images/{index}/thumbnail",
    summary="Fetch an image's thumbnail",
    response_class=Response,
    responses=_PICTURE,
)
async def image_thumbnail(
    job: JobId, index: Index, request: Request, caller: Caller, services: ServicesDep, size: Size = 256
) -> Response:
    """A small WebP of the picture of an image that is done."""
    found, image = await job_and_image(services.farm, job, index, caller.tenant)
    if image.state is not ImageState.DONE:
        return Response(status_code=204)
    return await _thumbnail(services, request, _result(found, index), size)


@router.get(
    "/{job}/inputs/{index}/thumbnail/{role:path}",
    summary="Fetch an input's thumbnail",
    response_class=Response,
    responses=_PICTURE,
)
async def input_thumbnail(
    job: JobId,
    index: Index,
    role: RolePath,
    request: Request,
    caller: Caller,
    services: ServicesDep,
    size: Size = 256,
) -> Response:
    """A small WebP of a picture that an input is rendered from: its image, mask or control picture."""
    found = await services.farm.call(services.farm.ledger.job, job, caller.tenant)
    return await _of_input(services, request, found, index, role, size)


async def _of_input(
    services: Services, request: Request, job: Job, index: int, role: str, size: int
) -> Response:
    try:
        key = await picture_of_input(services, job, index, role)
    except (NotFound, StoreError) as error:
        if isinstance(error, StoreError) and not error.missing:
            raise
        return Response(status_code=204)
    return await _thumbnail(services, request, key, size)


async def _thumbnail(services: Services, request: Request, key: str, size: int) -> Response:
    # results never change once they are there, and an input's key is its hash
    tag = f'"{key.rpartition("/")[2] if key.startswith("inputs/") else key}-{size}"'
    # private, and asked for again each time: whoever signs in next must not see it
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    try:
        made = await services.thumbnails.of(key, size)
    except StoreError as error:
        if not error.missing:
            raise
        made = None
    if made is None:
        return Response(status_code=204)
    return Response(made, media_type="image/webp", headers=headers)


def _result(job: Job, index: int) -> str:
    return result_key(job.id, index, job.params.output_format)
