"""What the farm has: pictures to refer to, workers, models, samplers, schedules."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from img2img_gateway.access import Caller
from img2img_gateway.dependencies import Parts
from img2img_gateway.errors import Problem
from img2img_gateway.submit import stored
from img2img_gateway.v1.job_answers import InputAnswer
from img2img_gateway.v1.jobs import UNLIMITED
from img2img_gateway.v1.machine_answers import DemandAnswer, ModelAnswer, SamplerAnswer, WorkerAnswer
from img2img_shared.errors import Refused
from img2img_shared.names import SAMPLERS, SCHEDULERS

router = APIRouter()

_SCHEDULES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"example": ["Automatic", "Karras", "Exponential"]}}}
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post(
    "/inputs",
    status_code=201,
    tags=["inputs"],
    openapi_extra=_BODY,
    max_body_size=UNLIMITED,
    summary="Upload a picture",
)
async def put_input(request: Request, parts: Parts, caller: Caller) -> InputAnswer:
    """Upload one picture, as the request's body. A tenant's same picture is kept once, under its SHA-256."""
    with parts.uploads.files(caller.tenant) as new_file:
        sent = new_file()
        async for chunk in request.stream():
            sent.write(chunk)
            if sent.size > parts.farm.settings.max_upload:
                raise Problem(413, f"a picture may have {parts.farm.settings.max_upload} bytes", field="body")
        if not sent.size:
            raise Refused("body", "", "send the bytes of a picture")
        return InputAnswer(key=await stored(parts, caller, sent, "body"), bytes=sent.size)


@router.get("/workers", tags=["farm"], summary="List the workers")
async def workers(parts: Parts, _: Caller) -> list[WorkerAnswer]:
    """The workers that live."""
    return [WorkerAnswer.of(worker) for worker in await parts.farm.workers()]


@router.get("/models", tags=["farm"], summary="List the models")
async def models(parts: Parts, _: Caller) -> list[ModelAnswer]:
    """The checkpoints that are served, or can be at once."""
    workers = await parts.farm.workers()
    return [
        ModelAnswer(
            name=each.model,
            workers=sum(worker.info.model == each.model for worker in workers),
            slots=sum(worker.info.slots for worker in workers if worker.info.model == each.model),
        )
        for each in await parts.farm.checkpoints()
    ]


@router.get("/demand", tags=["farm"], summary="See what there is to do")
async def demand(
    parts: Parts,
    _: Caller,
    model: Annotated[str | None, Query(description="This one alone, also if it has nothing to do.")] = None,
) -> list[DemandAnswer]:
    """Images that wait and run, by model: what to scale workers by. Every tenant's are counted."""
    found = {each.model: DemandAnswer.of(each) for each in await parts.farm.call(parts.farm.ledger.demand)}
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
