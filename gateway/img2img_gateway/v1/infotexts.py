"""Reads parameters from an infotext, or from a picture that has one."""

from typing import Annotated, Any, Self

from fastapi import APIRouter
from pydantic import ConfigDict, Field, model_validator

from img2img_gateway.access import Caller
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.json_route import JsonRoute
from img2img_gateway.params_of_infotext import read_infotext
from img2img_gateway.pictures import decode_picture
from img2img_gateway.v1.api_model import ApiModel
from img2img_gateway.v1.job_request import PictureText
from img2img_shared.errors import Refused
from img2img_shared.picture_texts import read_texts

router = APIRouter(route_class=JsonRoute)

#: characters
LONGEST = 1024 * 1024


class InfotextRequest(ApiModel):
    """A text, or a picture that has one."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"infotext": "a cat\nSteps: 20, Sampler: Euler, Seed: 7, Size: 512x512"}]
        },
    )

    infotext: Annotated[str, Field(max_length=LONGEST)] | None = None
    image: PictureText | None = None
    """A picture with an infotext, as base64."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.infotext is None) == (self.image is None):
            raise Refused("infotext", self.infotext, "give a text or a picture, one of the two")
        return self


class RefusedAnswer(ApiModel):
    """A value of the text that no job may have."""

    field: str
    allowed: str
    """What is wrong with it, and what to give instead."""


class InfotextAnswer(ApiModel):
    """The parameters that an infotext tells."""

    infotext: str
    """The text; empty: the picture has none."""
    params: dict[str, Any]
    """By name; only those that the text tells."""
    model: str | None
    """The checkpoint that it names."""
    refused: list[RefusedAnswer]
    left_out: dict[str, str]
    """Names and values for which there is no parameter."""


@router.post("/infotext", tags=["inputs"], summary="Read an infotext")
async def infotext(body: InfotextRequest, services: ServicesDep, _: Caller) -> InfotextAnswer:
    """The parameters for a job that renders as this picture was rendered, from A1111's infotext or ours."""
    text = body.infotext
    if body.image is not None:
        largest = services.farm.settings.max_upload
        data = await services.farm.call(decode_picture, body.image.strip(), "image", largest)
        text = (await services.farm.call(read_texts, data)).get("parameters", "")
    found = await services.farm.call(read_infotext, text or "")
    return InfotextAnswer(
        infotext=text or "",
        params=found.params.model_dump(mode="json", exclude_unset=True),
        model=found.model,
        refused=[RefusedAnswer(field=each.field, allowed=each.reason) for each in found.refused],
        left_out=found.left_out,
    )
