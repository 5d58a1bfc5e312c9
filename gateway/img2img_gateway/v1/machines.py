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

WorkerId = Annotated[str, Path(max_length=300, description="Its id, or its host's name: all of that.")]

_SCHEDULES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"example": ["Automatic", "Karras", "Exponential"]}}}
}


@router.get("/workers", tags=["farm"], summary="List the workers")
async def workers(services: ServicesDep, caller: Caller) -> list[WorkerAnswer]:
    """The workers that live."""
    return [WorkerAnswer.of(worker, operates=caller.operates) for worker in await services.farm.workers()]


@router.put("/workers/{worker}/order", tags=["farm"], summary="Tell a worker what to do")
async def order(
    worker: WorkerId, body: OrderRequest, services: ServicesDep, caller: Caller, once: IdempotencyKey = None
) -> OrderAnswer:
    """Disable, drain or (null) enable a worker, or all of a host's: for who operates the farm."""
    caller.check(Role.OPERATE)
    told = await services.farm.call(services.farm.service.order, worker, body.order, caller.owner, once)
    return OrderAnswer(workers=told, order=body.order)


@router.get("/models", tags=["farm"], summary="List the models")
async def models(services: ServicesDep, _: Caller) -> list[ModelAnswer]:
    """The checkpoints that are served, or can be at once."""
    workers = await services.farm.workers()
    return [
        ModelAnswer(
            name=each.model,
            workers=sum(each.model in worker.info.models for worker in workers),
            slots=sum(worker.info.slots for worker in workers if each.model in worker.info.models),
        )
        for each in await services.farm.checkpoints()
    ]


@router.get("/demand", tags=["farm"], summary="See what there is to do")
async def demand(
    services: ServicesDep,
    _: Caller,
    model: Annotated[str | None, Query(description="This one alone, also if it has nothing to do.")] = None,
    total: Annotated[bool, Query(description="All models together, as one whose name is empty.")] = False,
) -> list[DemandAnswer]:
    """Images that wait and run, by model: what to scale workers by. Every tenant's are counted."""
    found = {
        each.model: DemandAnswer.of(each) for each in await services.farm.call(services.farm.ledger.demand)
    }
    if total:
        return [DemandAnswer.sum_of(found.values())]
    return list(found.values()) if model is None else [found.get(model, DemandAnswer(model=model))]


@router.get("/samplers", tags=["farm"], summary="List the samplers")
async def samplers() -> list[SamplerAnswer]:
    """What `sampler_name` may be."""
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
    """What `scheduler` may be."""
    return list(SCHEDULERS)
