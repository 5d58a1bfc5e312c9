"""Parameters of pictures that are rendered again and again."""

from typing import Annotated, Literal

from pydantic import Field

from img2img_shared.param_groups.as_given import AsGiven
from img2img_shared.param_groups.group import ParamGroup


class LoopbackParams(ParamGroup):
    """A1111's script "Loopback": each result is the next render's input."""

    loopback: Annotated[
        bool,
        Field(
            description="Render the result again, as often as `loopback_loops` says, each time with the next "
            "seed.",
            examples=[True],
        ),
    ] = False
    loopback_loops: Annotated[
        int, Field(ge=1, le=32, description="How many renders there are.", examples=[6])
    ] = 4
    loopback_final_denoising_strength: Annotated[
        float,
        Field(ge=0, le=1, description="Denoising strength of the last render.", examples=[0.3]),
        AsGiven(),
    ] = 0.5
    loopback_denoising_curve: Annotated[
        Literal["Aggressive", "Linear", "Lazy"],
        Field(
            description="How the strength gets there: early, evenly, or late.",
            examples=["Lazy"],
        ),
    ] = "Linear"
    loopback_color_target: Annotated[
        Literal["first", "each"],
        Field(
            description="Whose colors `color_correction` gives a render: of the picture that was sent, or of "
            "the one that this render starts from.",
            examples=["each"],
        ),
    ] = "first"
    loopback_return_all: Annotated[
        bool, Field(description="Store what each render made beside the last.", examples=[True])
    ] = False
