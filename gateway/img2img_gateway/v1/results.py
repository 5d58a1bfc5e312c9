"""The pictures of images that are done: one, their URLs, or all in one archive."""

from collections.abc import Iterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from zipstream import ZIP_STORED, ZipStream

from img2img_gateway.access import Caller
from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.v1.job_answers import ResultItem, ResultList
from img2img_gateway.v1.request_fields import Index, JobId, Start
from img2img_shared.errors import NotFound, Refused, StoreError, Summary
from img2img_shared.farm.originals import Originals, read_originals
from img2img_shared.job import ImageState, Job, result_key
from img2img_shared.ledger import IMAGES
from img2img_shared.records import ImageStatus

router = APIRouter(prefix="/jobs", tags=["results"])

_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
#: images of one archive at most: a ZIP's directory comes last, and is kept in memory until then
ARCHIVE = 100_000
#: indices and ranges of indices: 0,3,7-12
_INDEXES = r"^\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*$"
#: a picture that an image has beside its own, where its parameters ask for one
Beside = Annotated[
    str,
    Query(
        pattern=r"^(mask|mask-composite|(control|loop)-\d{1,3})?$",
        description="In place of the picture: its mask or mask-composite (see return_mask), what a control "
        "network saw (control-0), or what an earlier render of a loop made (loop-0; loopback_return_all).",
        examples=["loop-0"],
    ),
]
_PICTURE = {"schema": {"type": "string", "format": "binary"}}


async def job_and_image(farm: AsyncFarm, job: str, index: int, tenant: str) -> tuple[Job, ImageStatus]:
    """A job, and the status of one of its images.

    Raises:
        NotFound: the tenant has no such job, or the job no such image.
    """
    found = await farm.call(farm.ledger.job, job, tenant)
    states = await farm.call(farm.ledger.images, job, tenant, index, 1)
    if not states:
        raise NotFound(f"job {job} has no image {index}")
    return found, states[0]


@router.get(
    "/{job}/images/{index}/picture",
    summary="Fetch a picture",
    response_class=Response,
    responses={200: {"content": dict.fromkeys(_TYPES.values(), _PICTURE)}},
)
async def picture(
    job: JobId, index: Index, caller: Caller, services: ServicesDep, beside: Beside = ""
) -> Response:
    """The encoded picture of an image that is done, or one that was stored beside it."""
    farm = services.farm
    found, image = await job_and_image(farm, job, index, caller.tenant)
    if image.state is not ImageState.DONE:
        reason = f": {image.reason}" if image.reason else ""
        raise NotFound(f"image {index} of job {job} is {image.state}{reason}; it has no picture")
    kind = found.params.output_format
    try:
        data = await farm.call(farm.store.get, result_key(job, index, kind, beside))
    except StoreError as error:
        if error.transient:
            raise
        if beside:
            raise NotFound(f"image {index} of job {job} has no {beside} beside it") from None
        raise NotFound(f"the picture of image {index} is not kept any more") from None
    return Response(data, media_type=_TYPES[kind])


@router.get(
    "/{job}/images/{index}/preview",
    summary="Fetch a preview of a running image",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": _PICTURE}}, 204: {"description": "None yet: ask again."}},
)
async def preview(job: JobId, index: Index, caller: Caller, services: ServicesDep) -> Response:
    """A small JPEG of a running image as it was a moment ago. The first request has its worker make them."""
    data = await services.farm.call(services.farm.previews.look, job, caller.tenant, index)
    return Response(status_code=204) if data is None else Response(data, media_type="image/jpeg")


@router.get("/{job}/results", summary="List a job's pictures")
async def results(
    job: JobId,
    caller: Caller,
    services: ServicesDep,
    start: Start = 0,
    limit: Annotated[int, Query(ge=1, le=IMAGES)] = 100,
    seconds: Annotated[
        int, Query(ge=1, le=7 * 24 * 3600, description="How long presigned URLs work.")
    ] = 3600,
) -> ResultList:
    """The URLs of the pictures of a page of images. A presigned URL works for whoever has it."""
    farm = services.farm
    found = await farm.call(farm.ledger.job, job, caller.tenant)
    states = await farm.call(farm.ledger.images, job, caller.tenant, start, limit)
    originals = await farm.call(read_originals, farm.store, found)
    done = [state.index for state in states if state.state is ImageState.DONE]
    items = await farm.call(_addresses, farm, found, originals, done, seconds)
    end = start + len(states)
    return ResultList(results=items, next=end if states and end < found.n else None)


@router.get(
    "/{job}/results.zip",
    summary="Fetch a job's pictures as one archive",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": _PICTURE}}},
)
async def archive(
    job: JobId,
    caller: Caller,
    services: ServicesDep,
    start: Start = 0,
    limit: Annotated[int, Query(ge=1, le=ARCHIVE, description="How many images from `start` on.")] = ARCHIVE,
    only: Annotated[
        str | None,
        Query(
            pattern=_INDEXES, max_length=20_000, description="Only these: 0,3,7-12.", examples=["0,3,7-12"]
        ),
    ] = None,
) -> StreamingResponse:
    """The pictures that are done by now, as one ZIP archive.

    Images that have ended and are not in it (they failed, or the store does not have their pictures any more)
    are listed in its last file, `missing.txt`, one a line: index, path as it was sent, and reason.
    """
    farm = services.farm
    found = await farm.call(farm.ledger.job, job, caller.tenant)
    if start + limit < found.n and limit == ARCHIVE:
        raise Refused(
            "limit",
            Summary(f"{found.n:,} images"),
            f"an archive holds {ARCHIVE:,}: ask for a part with start and limit",
        )
    originals = await farm.call(read_originals, farm.store, found)
    every = range(start, min(start + limit, found.n))
    return StreamingResponse(
        _zipped(farm, found, originals, [every] if only is None else _chosen(only, every)),
        media_type="application/zip",
        headers={"Content-Disposition": f'attachment; filename="{job}.zip"'},
    )


def _chosen(only: str, every: range) -> list[range]:
    """The images of `every` that "0,3,7-12" means, each once and in order."""
    parts = sorted(tuple(map(int, part.split("-"))) for part in only.split(","))
    chosen: list[range] = []
    start = every.start
    for first, *last in parts:
        indices = range(max(first, start), min((last or [first])[0] + 1, every.stop))
        if indices:
            chosen.append(indices)
            start = indices.stop
    return chosen


def _zipped(farm: AsyncFarm, job: Job, originals: Originals, wanted: Sequence[range]) -> Iterator[bytes]:
    archive = ZipStream(compress_type=ZIP_STORED)  # pictures are compressed already
    missing: list[str] = []
    for image in (image for each in wanted for image in farm.service.images(job, each)):
        reason = image.reason if image.state is ImageState.FAILED else None
        if image.state is ImageState.DONE:
            try:
                data = farm.store.get(result_key(job.id, image.index, job.params.output_format))
            except StoreError as error:
                reason = (
                    "the store does not answer" if error.transient else "the store does not have it any more"
                )
            else:
                archive.add(data, originals.names[image.index])
                yield from archive.all_files()
        if reason is not None:
            path = originals.paths[job.output(image.index)[0]]
            missing.append(f"{image.index} {path or originals.names[image.index]}: {reason}\n")
    if missing:
        archive.add("".join(missing), "missing.txt")
    yield from archive.finalize()


def _addresses(
    farm: AsyncFarm, job: Job, originals: Originals, indexes: list[int], seconds: int
) -> list[ResultItem]:
    return [
        ResultItem(
            index=index,
            name=originals.names[index],
            url=farm.store.sign(result_key(job.id, index, job.params.output_format), seconds)
            or f"/v1/jobs/{job.id}/images/{index}/picture",
        )
        for index in indexes
    ]
