"""What the farm has: workers, models, samplers, schedules."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from img2img_gateway.access import Caller
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.json_route import JsonRoute
from img2img_gateway.key_roles import Role
from img2img_gateway.v1.machine_answers import (
    DemandAnswer,
    ModelAnswer,
    OrderAnswer,
    OrderRequest,
    SamplerAnswer,
    WorkerAnswer,
)
from img2img_gateway.v1.request_fields import IdempotencyKey
from img2img_shared.samplers import SAMPLERS, SCHEDULERS

router = APIRouter(route_class=JsonRoute)

WorkerId = Annotated[
    str, Path(max_length=300, description="Its id, or the name of a host: all workers there.")
]

_SCHEDULES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"example": ["Automatic", "Karras", "Exponential"]}}}
}


@router.get("/workers", tags=["farm"], summary="List the workers")
async def workers(services: ServicesDep, caller: Caller) -> list[WorkerAnswer]:
    """The live workers."""
    return [WorkerAnswer.of(worker, operates=caller.operates) for worker in await services.farm.workers()]


@router.put("/workers/{worker}/order", tags=["farm"], summary="Drain, disable or enable a worker")
async def order(
    worker: WorkerId, body: OrderRequest, services: ServicesDep, caller: Caller, once: IdempotencyKey = None
) -> OrderAnswer:
    """Disable, drain or (null) enable a worker, or all workers of a host. It needs the role operate."""
    caller.check(Role.OPERATE)
    ordered = await services.farm.call(services.farm.service.order, worker, body.order, caller.owner, once)
    return OrderAnswer(workers=ordered, order=body.order)


@router.get("/models", tags=["farm"], summary="List the models")
async def models(services: ServicesDep, _: Caller) -> list[ModelAnswer]:
    """The checkpoints that workers serve, or can load at once."""
    workers = await services.farm.workers()
    return [
        ModelAnswer(
            name=each.model,
            workers=sum(each.model in worker.info.models for worker in workers),
            slots=sum(worker.info.slots for worker in workers if each.model in worker.info.models),
        )
        for each in await services.farm.checkpoints()
    ]


@router.get("/demand", tags=["farm"], summary="Get the demand for workers")
async def demand(
    services: ServicesDep,
    _: Caller,
    model: Annotated[str | None, Query(description="Only this model, even if nothing waits for it.")] = None,
    total: Annotated[bool, Query(description="The sum over all models, as one with an empty name.")] = False,
) -> list[DemandAnswer]:
    """How many images wait and run, by model and over all tenants: what to scale workers by."""
    found = {
        each.model: DemandAnswer.of(each) for each in await services.farm.call(services.farm.ledger.demand)
    }
    if total:
        return [DemandAnswer.sum_of(found.values())]
    return list(found.values()) if model is None else [found.get(model, DemandAnswer(model=model))]


@router.get("/samplers", tags=["farm"], summary="List the samplers")
async def samplers() -> list[SamplerAnswer]:
    """The values that `sampler_name` may have."""
    return [
        SamplerAnswer(
            name=name,
            aliases=list(sampler.aliases),
            scheduler=sampler.scheduler or "Uniform",
            options=sorted(sampler.options),
        )
        for name, sampler in SAMPLERS.items()
    ]


@router.get("/schedulers", tags=["farm"], summary="List the schedules", responses=_SCHEDULES)
async def schedulers() -> list[str]:
    """The values that `scheduler` may have."""
    return list(SCHEDULERS)
