"""What the two outpainting scripts share: their sides, and that they drop the mask."""

from typing import Annotated, Any, Literal

from pydantic import Field

from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.request import Img2ImgRequest, RenderRequest
from img2img_gateway.sdapi.scripts.script import first_picture
from img2img_shared.errors import Refused, Summary
from img2img_shared.param_groups.outpainting_params import SIDES

#: a list, or a text that has their names in it
Sides = Annotated[
    tuple[Literal["left", "right", "up", "down"], ...] | Annotated[str, Field(max_length=1000)],
    Field(title="Outpainting direction", json_schema_extra={"enum": list(SIDES)}),
]


def sides_of(given: tuple[str, ...] | str) -> str:
    """The parameter `outpaint`.

    Raises:
        Refused: no side is to grow.
    """
    sides = [side for side in SIDES if side in given]
    if not sides:
        raise Refused("script_args.sides", given, f"give some of {', '.join(SIDES)}")
    return ", ".join(sides)


def first_picture_alone(request: RenderRequest, lenient: Leniency, title: str) -> dict[str, Any]:
    """The change to a request that keeps only its first picture, without its mask."""
    if isinstance(request, Img2ImgRequest) and request.mask:
        lenient.set_aside("mask", Summary("a picture"), f"{title} has a mask of its own, as in A1111")
    return {**first_picture(request, lenient, title), "mask": None}
