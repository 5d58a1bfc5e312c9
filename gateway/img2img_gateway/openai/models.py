"""``/openai/v1/models``: what OpenAI's clients list before they name one."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from img2img_gateway.access import Caller
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.gateway_errors import Problem
from img2img_gateway.json_route import JsonRoute
from img2img_shared.suggestions import unknown_name

router = APIRouter(prefix="/models", tags=["OpenAI's image API"], route_class=JsonRoute)


class Model(BaseModel):
    """A checkpoint that the farm serves, or can load."""

    id: Annotated[str, Field(examples=["sd15"])]
    object: Literal["model"] = "model"
    #: seconds since 1970; a farm does not know it
    created: int = 0
    owned_by: str = "img2img-farm"


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("", summary="List the models")
async def models(services: ServicesDep, _: Caller) -> ModelList:
    """The checkpoints that workers serve, or can load at once."""
    return ModelList(data=[Model(id=each.model) for each in await services.farm.checkpoints()])


@router.get("/{model:path}", summary="Get a model")
async def model(
    model: Annotated[str, Path(max_length=1024, description="By any name of it, or its hash.")],
    services: ServicesDep,
    _: Caller,
) -> Model:
    """The checkpoint that a name means."""
    found = await services.farm.checkpoint(model)
    if found is None:
        known = [each.model for each in await services.farm.checkpoints()]
        raise Problem(404, f"model is {model!r}: {unknown_name('model', model, known)}", field="model")
    return Model(id=found.model)
