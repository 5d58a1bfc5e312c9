"""Calls that change a job: cancel, pause, resume, retry, remove, priority, keep."""

from fastapi import APIRouter

from img2img_gateway.access import Caller
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.json_route import JsonRoute
from img2img_gateway.v1.job_answers import Changed, JobAnswer, Removed
from img2img_gateway.v1.job_request import KeepRequest, PriorityRequest
from img2img_gateway.v1.request_fields import IdempotencyKey, JobId
from img2img_shared.durations import read_duration

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=JsonRoute)


@router.post("/{job}/cancel", summary="Cancel a job")
async def cancel(job: JobId, caller: Caller, services: ServicesDep, once: IdempotencyKey = None) -> Changed:
    """End a job; its running images stop after their current step. `changed` images will not be rendered."""
    call = services.farm.service.cancel
    return Changed(changed=await services.farm.call(call, job, caller.tenant, caller.owner, once))


@router.delete("/{job}", summary="Remove a job")
async def remove(job: JobId, caller: Caller, services: ServicesDep, once: IdempotencyKey = None) -> Removed:
    """Remove a job that has ended, with its results; later also its inputs, if no other job has them."""
    call = services.farm.service.remove
    return Removed(removed=await services.farm.call(call, job, caller.tenant, caller.owner, once))


@router.post("/{job}/pause", summary="Pause a job")
async def pause(job: JobId, caller: Caller, services: ServicesDep, once: IdempotencyKey = None) -> Changed:
    """Begin no further image of a job. Its running images go on."""
    call = services.farm.service.pause
    return Changed(changed=await services.farm.call(call, job, caller.tenant, caller.owner, once))


@router.post("/{job}/resume", summary="Resume a paused job")
async def resume(job: JobId, caller: Caller, services: ServicesDep, once: IdempotencyKey = None) -> Changed:
    """Go on with a paused job."""
    call = services.farm.service.resume
    return Changed(changed=await services.farm.call(call, job, caller.tenant, caller.owner, once))


@router.post("/{job}/retry", summary="Retry a job's failed images")
async def retry(job: JobId, caller: Caller, services: ServicesDep, once: IdempotencyKey = None) -> Changed:
    """Render a job's failed images again. `changed` is how many there are."""
    if caller.key is not None:
        status = await services.farm.call(services.farm.service.status, job, caller.tenant)
        await services.farm.call(services.quota.reserve_again, caller.key, job, status.failed)
    call = services.farm.service.retry
    return Changed(changed=await services.farm.call(call, job, caller.tenant, caller.owner, once))


@router.put("/{job}/priority", summary="Change a job's priority")
async def priority(
    job: JobId, body: PriorityRequest, caller: Caller, services: ServicesDep, once: IdempotencyKey = None
) -> Changed:
    """Change a job's priority (higher goes first), from its next image on."""
    wanted = caller.allowed_priority(body.priority)
    call = services.farm.service.set_priority
    return Changed(changed=await services.farm.call(call, job, caller.tenant, wanted, caller.owner, once))


@router.put("/{job}/keep", summary="Change how long a job is kept")
async def keep(
    job: JobId, body: KeepRequest, caller: Caller, services: ServicesDep, once: IdempotencyKey = None
) -> JobAnswer:
    """Change how long a job, its results and its inputs are kept after its end."""
    wanted = read_duration(caller.allowed_keep(body.keep))
    await services.farm.call(services.farm.service.set_keep, job, caller.tenant, wanted, caller.owner, once)
    return JobAnswer.of(await services.farm.call(services.farm.service.status, job, caller.tenant))
