"""Parameters of how much changes."""

from typing import Annotated

from pydantic import Field

from img2img_shared.param_groups.as_given import AsGiven
from img2img_shared.param_groups.group import ParamGroup


class DenoisingParams(ParamGroup):
    """How much of the input changes."""

    denoising_strength: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="How much changes: 0 runs one step, 1 runs the whole schedule.",
            examples=[0.4],
        ),
    ] = 0.75
    txt2img: Annotated[
        bool,
        Field(
            title="From text alone",
            description="Start from noise alone at full strength; the input picture is not used.",
            examples=[True],
        ),
    ] = False
    initial_noise_multiplier: Annotated[
        float, Field(ge=0, le=10, description="Factor of the first noise.", examples=[1.05])
    ] = 1.0
    extra_noise: Annotated[
        float,
        Field(
            ge=0,
            le=10,
            description="Add this much more of the same noise after the first noise.",
            examples=[0.1],
        ),
        AsGiven(),
    ] = 0.0
