"""Parameters of the picture's size."""

import re
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from img2img_shared.errors import Refused
from img2img_shared.modes import ResizeMode
from img2img_shared.param_groups.group import ParamGroup
from img2img_shared.upscaler_names import UpscalerName

#: pixels that the VAE makes one cell of
CELL = 8

#: pixels of a result's side
LEAST, MOST = 64, 2048

Pixels = Annotated[int, Field(ge=LEAST, le=MOST, json_schema_extra={"multipleOf": CELL})]


class SizeParams(ParamGroup):
    """How large the result is, and how an input gets that size."""

    # before the sides, whose check reads it
    odd_size: Annotated[
        bool,
        Field(
            title="Odd sizes",
            description="Accept a width and height that are no multiples of 8, and cut off the rest, as "
            "A1111's API does.",
            examples=[True],
        ),
    ] = False
    width: Annotated[Pixels, Field(description="Width of the result, in pixels.", examples=[768])] = 512
    height: Annotated[Pixels, Field(description="Height of the result, in pixels.", examples=[768])] = 512
    fit: Annotated[
        int | None,
        Field(
            title="Longer side",
            ge=0,
            le=MOST,
            description="Longer side of the result, whose shape is then its input's, in place of width and "
            "height; 0 takes the input's own size, within the area that the model was trained for.",
            examples=[768],
        ),
    ] = None
    resize_mode: Annotated[
        ResizeMode, Field(description="How the input gets the result's size.", examples=[1])
    ] = ResizeMode.JUST_RESIZE
    upscaler_for_img2img: Annotated[
        UpscalerName,
        Field(
            description="What enlarges an input that is smaller than the result: None (Lanczos in one step), "
            "Lanczos (A1111's way over multiples of 8), Nearest, or a network by its file's name.",
            examples=["Lanczos"],
        ),
    ] = "None"
    background: Annotated[
        str,
        Field(
            max_length=100,
            description='Colour behind transparent inputs, as "#rrggbb".',
            examples=["#808080"],
        ),
    ] = "#ffffff"

    @field_validator("width", "height")
    @classmethod
    def _side_is_of_whole_cells(cls, value: int, info: ValidationInfo) -> int:
        if value % CELL and not info.data.get("odd_size"):
            raise ValueError(f"a multiple of {CELL}")
        return value

    @field_validator("background")
    @classmethod
    def _background_is_a_colour(cls, value: str) -> str:
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
            raise Refused("background", value, 'give a colour as "#rrggbb"')
        return value.lower()
