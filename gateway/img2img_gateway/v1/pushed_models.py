"""Models in the farm's store, which workers fetch: pushed part by part, listed, pulled and removed."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from img2img_gateway.access import Caller
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.gateway_errors import Problem
from img2img_gateway.json_route import JsonRoute
from img2img_gateway.key_roles import Role
from img2img_gateway.v1.examples import example
from img2img_gateway.v1.inputs import BODY, Sha256
from img2img_gateway.v1.request_fields import UNLIMITED, IdempotencyKey
from img2img_shared.errors import NotFound
from img2img_shared.pushed_models.download import PIECE
from img2img_shared.pushed_models.model_objects import PART
from img2img_shared.pushed_models.pushed_model import ModelKind, NewModel, PushedModel

router = APIRouter(prefix="/models/pushed", tags=["farm"], route_class=JsonRoute)

_SHA256 = "0123456789abcdef" * 4
_NEW = {"kind": "lora", "name": "ink", "ending": ".safetensors", "sha256": _SHA256, "size": 151_110_896}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


class PushedModelAnswer(PushedModel):
    """A model in the store."""

    model_config = example({**_NEW, "part": PART, "model": "", "pushed": 1_772_366_400.0, "by": "alice"})


class PushRequest(NewModel):
    """``POST /v1/models/pushed``."""

    model_config = example(_NEW)


@router.get("", summary="List the models in the store")
async def pushed(caller: Caller, services: ServicesDep) -> list[PushedModelAnswer]:
    """The models in the store, which workers fetch for jobs that name them. It needs the role operate."""
    caller.check(Role.OPERATE)
    return [_answer(each) for each in await services.farm.call(services.farm.service.pushed_models)]


@router.get("/find", summary="Find a model in the store")
async def find(
    caller: Caller,
    services: ServicesDep,
    name: Annotated[str, Query(max_length=300, description="Its name, or its hash.")],
    kind: ModelKind | None = None,
) -> PushedModelAnswer:
    """The model that jobs mean by a name or a hash; of several with one name, the one pushed last."""
    caller.check(Role.OPERATE)
    return _answer(await services.farm.call(services.farm.service.pushed_model, name, kind))


@router.get(
    "/{sha256}/parts",
    summary="List the parts of a file",
    responses={200: {"content": {"application/json": {"example": {"0": PART, "1": 16_893_232}}}}},
)
async def sizes(sha256: Sha256, caller: Caller, services: ServicesDep) -> dict[int, int]:
    """Bytes of each part that the store has, by number: a push that broke off continues with the others."""
    caller.check(Role.OPERATE)
    return await services.farm.call(services.farm.service.model_objects.sizes, sha256)


@router.put(
    "/{sha256}/parts/{number}",
    status_code=204,
    openapi_extra=BODY,
    max_body_size=UNLIMITED,
    summary="Send a part of a file",
)
async def put_part(
    sha256: Sha256,
    number: Annotated[int, Path(ge=0, le=100_000)],
    request: Request,
    caller: Caller,
    services: ServicesDep,
) -> Response:
    """Store a part of a file, over any earlier one of its number; `POST /v1/models/pushed` ends the push."""
    caller.check(Role.OPERATE)
    with services.uploads.files(caller.tenant) as new_file:
        sent = new_file()
        async for chunk in request.stream():
            sent.write(chunk)
            if sent.size > PART:
                raise Problem(413, f"send at most {PART} bytes as one part", field="body")
        async with services.pictures.held(sent.size):
            data = sent.read()
            await services.farm.call(services.farm.service.put_model_part, sha256, number, data)
    return Response(status_code=204)


@router.post("", status_code=201, summary="End the push of a file")
async def add(body: PushRequest, caller: Caller, services: ServicesDep) -> PushedModelAnswer:
    """End a push once all parts are there: from now on its name means this file, except in earlier jobs."""
    caller.check(Role.OPERATE)
    new = NewModel(**dict(body))
    return _answer(await services.farm.call(services.farm.service.add_pushed_model, new, caller.owner))


@router.get(
    "/{sha256}/bytes",
    summary="Fetch some bytes of a file",
    response_class=Response,
    responses=_FILE,
)
async def read(
    sha256: Sha256,
    caller: Caller,
    services: ServicesDep,
    start: Annotated[int, Query(ge=0)] = 0,
    size: Annotated[int, Query(ge=1, le=PIECE, description="How many bytes at most.")] = PIECE,
) -> Response:
    """The bytes from `start` on. A model of several files is read as one, in the order of their list."""
    caller.check(Role.OPERATE)
    model = await services.farm.call(services.farm.service.find_pushed_file, sha256)
    if model is None or start >= model.total:
        raise NotFound(f"no pushed model has the SHA-256 {sha256} and a byte {start}")
    async with services.pictures.held(size):
        data = await services.farm.call(services.farm.service.model_objects.read, model, start, size)
        return Response(data, media_type="application/octet-stream")


@router.delete("/{sha256}", summary="Remove a model from the store")
async def remove(
    sha256: Sha256, caller: Caller, services: ServicesDep, once: IdempotencyKey = None
) -> PushedModelAnswer:
    """Remove a model, unless jobs that have not ended need it (422)."""
    caller.check(Role.OPERATE)
    call = services.farm.service.remove_pushed_model
    return _answer(await services.farm.call(call, sha256, caller.owner, once))


def _answer(model: PushedModel) -> PushedModelAnswer:
    return PushedModelAnswer(**dict(model))
