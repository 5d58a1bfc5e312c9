"""Lists of jobs and of their images, and the status of one."""

from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query

from img2img_gateway.access import Caller, Principal
from img2img_gateway.dependencies import Services, ServicesDep
from img2img_gateway.json_route import JsonRoute
from img2img_gateway.v1.job_answers import ImageAnswer, ImageList, JobAnswer, JobList
from img2img_gateway.v1.request_fields import Index, JobId, Start
from img2img_shared.errors import NotFound
from img2img_shared.farm.job_filter import JobFilter
from img2img_shared.farm.originals import with_names
from img2img_shared.job import ImageState, JobState, Tag
from img2img_shared.ledger import IMAGES
from img2img_shared.params import Params

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=JsonRoute)

#: images that are searched for one page of those in a given state
LOOKED_THROUGH = 20_000


@router.get("", summary="List your jobs")
async def jobs(
    caller: Caller,
    services: ServicesDep,
    start: Annotated[str, Query(max_length=100, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    search: Annotated[str | None, Query(description="A part of their names or ids.")] = None,
    state: Annotated[list[JobState] | None, Query(description="Only jobs in one of these states.")] = None,
    model: Annotated[str | None, Query()] = None,
    owner: Annotated[str | None, Query(description="Only jobs that this person or key submitted.")] = None,
    tag: Annotated[list[Tag] | None, Query(description="Only jobs that have all of these tags.")] = None,
) -> JobList:
    """Your jobs, newest first. With a filter, a page may have few jobs or none and still a `next`."""
    wanted = JobFilter(
        search=search, states=tuple(state or ()), model=model, owner=owner, tags=tuple(tag or ())
    )
    page = await services.farm.call(services.farm.service.page_of_jobs, caller.tenant, wanted, start, limit)
    return JobList(jobs=[JobAnswer.of(status) for status in page.jobs], next=page.next)


@router.get("/{job}", summary="Get a job's status")
async def job(job: JobId, caller: Caller, services: ServicesDep) -> JobAnswer:
    """A job's state, counts, times and rate, and what it waits for."""
    return JobAnswer.of(await services.farm.call(services.farm.service.status, job, caller.tenant))


@router.get("/{job}/params", summary="Get a job's parameters")
async def params(job: JobId, caller: Caller, services: ServicesDep) -> Params:
    """The parameters that the job was submitted with, and the seeds that were drawn."""
    return (await services.farm.call(services.farm.ledger.job, job, caller.tenant)).params


@router.get("/{job}/images", summary="List a job's images")
async def images(
    job: JobId,
    caller: Caller,
    services: ServicesDep,
    start: Start = 0,
    limit: Annotated[int, Query(ge=1, le=IMAGES)] = 100,
    state: Annotated[ImageState | None, Query(description="Only images in this state.")] = None,
) -> ImageList:
    """The status of each image, by index. With a filter, a page may have few images and still a `next`."""
    total = (await services.farm.call(services.farm.ledger.status, job, caller.tenant)).n
    wanted = range(start, min(start + (limit if state is None else LOOKED_THROUGH), total))
    found = await services.farm.call(_images, services, caller, job, wanted, limit, state)
    end = found[-1].index + 1 if len(found) == limit else wanted.stop
    return ImageList(images=found, next=end if end < total else None)


@router.get("/{job}/images/{index}", summary="Get an image's status")
async def image(job: JobId, index: Index, caller: Caller, services: ServicesDep) -> ImageAnswer:
    """The status of one image; `index` counts from 0."""
    found = await services.farm.call(_images, services, caller, job, range(index, index + 1), 1, None)
    if not found:
        raise NotFound(f"job {job} has no image {index}")
    return found[0]


def _images(
    services: Services, caller: Principal, job_id: str, wanted: range, limit: int, state: ImageState | None
) -> list[ImageAnswer]:
    job = services.farm.ledger.job(job_id, caller.tenant)
    found = services.farm.service.images(job, wanted)
    fitting = islice((image for image in found if state in (None, image.state)), limit)
    return [ImageAnswer.of(image) for image in with_names(services.farm.store, job, fitting)]
