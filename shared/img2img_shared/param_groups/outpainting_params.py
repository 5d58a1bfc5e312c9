"""Parameters of outpainting: pictures that grow beyond their edges."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from img2img_shared.errors import Refused
from img2img_shared.param_groups.group import ParamGroup

#: where a picture may grow
SIDES = ("left", "right", "up", "down")


def _in_order(text: str) -> str:
    given = [side.strip() for side in text.split(",")] if text else []
    if not set(given) <= set(SIDES):
        raise Refused("outpaint", text, f"give some of {', '.join(SIDES)}, with commas between them")
    return ", ".join(side for side in SIDES if side in given)


class OutpaintingParams(ParamGroup):
    """A1111's scripts "Poor man's outpainting" and "Outpainting mk2"."""

    outpaint: Annotated[
        str,
        Field(
            max_length=24,
            description="Where the picture grows: left, right, up, down, with commas between them. Width and "
            "height are then those of the tiles in which it is rendered.",
            examples=["left, right"],
        ),
        AfterValidator(_in_order),
    ] = ""
    outpaint_method: Annotated[
        Literal["tiles", "noise"],
        Field(
            description="How: in tiles that share model calls and fade into each other (A1111's Poor man's "
            "outpainting); or side after side, each from noise that continues the picture (Outpainting mk2).",
            examples=["noise"],
        ),
    ] = "tiles"
    outpaint_pixels: Annotated[
        int,
        Field(
            ge=8,
            le=256,
            description="Pixels by which it grows each way, at least: each side of "
            "the result is a multiple of 64. `tiles` overlap by as many.",
            examples=[64],
        ),
    ] = 128
    outpaint_mask_blur: Annotated[
        int,
        Field(
            ge=0,
            le=64,
            description="How far the rendered fades into the picture, in pixels: half the sigma of the blur "
            "with `tiles`, a quarter with `noise`.",
            examples=[8],
        ),
    ] = 4
    outpaint_tile: Annotated[
        int | None,
        Field(
            ge=0,
            le=999,
            description="Renders one of the `tiles` alone, counted row by row from 0; it is the result.",
            examples=[0],
        ),
    ] = None
    outpaint_noise_exponent: Annotated[
        float,
        Field(ge=0, le=4, description="How smooth the `noise` is: less has more detail.", examples=[0.5]),
    ] = 1.0
    outpaint_color_variation: Annotated[
        float, Field(ge=0, le=1, description="How colourful the `noise` is.", examples=[0.2])
    ] = 0.05

    @property
    def outpaint_sides(self) -> tuple[str, ...]:
        """Where the picture grows."""
        return tuple(self.outpaint.split(", ")) if self.outpaint else ()
