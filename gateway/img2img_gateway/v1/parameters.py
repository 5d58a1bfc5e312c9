"""The parameters of a render, with all that a form for them needs."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter
from pydantic import Field

from img2img_gateway.access import Caller
from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.v1.api_model import ApiModel
from img2img_shared.control import ControlUnit
from img2img_shared.ledger.file_names import FileKind
from img2img_shared.own_params import OF_THE_JOB
from img2img_shared.param_fields import GROUPS
from img2img_shared.param_reference import TELLING, choices, description, files, schema_of, switch_of, title
from img2img_shared.params import Params

router = APIRouter()


class ChoiceAnswer(ApiModel):
    """A value that a parameter may have."""

    value: int | str
    title: str
    """The value in words."""


class ParameterAnswer(ApiModel):
    """A parameter, or a field of a control unit."""

    name: Annotated[str, Field(examples=["steps"])]
    title: str
    """Its label in a form."""
    description: str
    """What it does, in a sentence."""
    type: Literal["boolean", "integer", "number", "string", "array"]
    nullable: bool
    """Whether it may be null, which then has a meaning of its own."""
    default: Any
    example: Any = None
    minimum: float | None = None
    """The least that it may be; null: no limit but that of 64-bit numbers."""
    maximum: float | None = None
    """The most that it may be; null: no limit but that of 64-bit numbers."""
    multiple_of: int | None = None
    max_length: int | None = None
    """The most characters of a text, or the most values of a list."""
    choices: list[ChoiceAnswer] | None = None
    """Values that it may have, the names of workers' files among them; null: any."""
    is_open: bool = True
    """Whether it may have values other than `choices`."""
    switch: str | None = None
    """The parameter that must be set for this one to have an effect."""
    is_own: bool = True
    """Whether each input may have its own value."""


class GroupAnswer(ApiModel):
    """Parameters that belong together."""

    title: str
    description: str
    """What they are about, in a sentence."""
    parameters: list[ParameterAnswer]


class ParametersAnswer(ApiModel):
    """All that a form of parameters is made from."""

    groups: list[GroupAnswer]
    control_unit: list[ParameterAnswer]
    """The fields of each unit in `control`."""


@router.get("/parameters", tags=["farm"], summary="List the parameters")
async def parameters(services: ServicesDep, _: Caller) -> ParametersAnswer:
    """Every parameter with its group, range, default and description, and the files that it may name."""
    found = await _files(services.farm)
    groups = [
        GroupAnswer(
            title=heading,
            description=group.__doc__ or "",
            parameters=[_parameter(name, found) for name in group.model_fields],
        )
        for heading, group in GROUPS.items()
    ]
    unit = [_parameter(name, found, ControlUnit) for name in ControlUnit.model_fields]
    return ParametersAnswer(groups=groups, control_unit=unit)


async def _files(farm: AsyncFarm) -> dict[str, list[str]]:
    """The files that workers have or can fetch, by kind."""
    return {kind: await farm.listed_files(kind) for kind in get_args(FileKind)}


def _parameter(
    name: str, found: Mapping[str, list[str]], model: type[Params | ControlUnit] = Params
) -> ParameterAnswer:
    schema = schema_of(name, model)
    known = {**choices(name, model), **{each: each for each in found.get(files(name, model) or "", ())}}
    ends = [end if end is not None and abs(end) <= TELLING else None for end in _range(schema)]
    return ParameterAnswer(
        name=name,
        title=title(name, model),
        description=description(name, model),
        type=schema["type"],
        nullable=any(kind.get("type") == "null" for kind in schema.get("anyOf", ())),
        default=schema.get("default"),
        example=next(iter(schema.get("examples", ())), None),
        minimum=ends[0],
        maximum=ends[1],
        multiple_of=schema.get("multipleOf"),
        max_length=schema.get("maxLength", schema.get("maxItems")),
        choices=[ChoiceAnswer(value=value, title=words) for value, words in known.items()] or None,
        is_open="enum" not in schema,
        switch=switch_of(name) if model is Params else None,
        is_own=name not in OF_THE_JOB,
    )


def _range(schema: Mapping[str, Any]) -> tuple[float | None, float | None]:
    return schema.get("minimum"), schema.get("maximum")
