"""What holds a render to control pictures."""

from typing import Annotated

from pydantic import Field

from img2img_shared.control import MOST_UNITS, ControlUnit
from img2img_shared.param_groups.group import ParamGroup
from img2img_shared.param_groups.seed_params import Seed
from img2img_shared.seeds import DRAW


class ControlParams(ParamGroup):
    """ControlNet and T2I-Adapter."""

    control: Annotated[
        tuple[ControlUnit, ...],
        Field(
            title="Control units",
            max_length=MOST_UNITS,
            description="Units of control (ControlNet): each holds the render to the edges, the depth or the "
            "colours of a picture.",
            examples=[[{"module": "canny", "model": "control_v11p_sd15_canny", "weight": 0.8}]],
        ),
    ] = ()
    control_subseed: Annotated[
        Seed,
        Field(
            title="Second seed of preprocessors",
            description="Number added to the first output's seed for preprocessors with randomness "
            "(`shuffle`); -1: the `subseed` that was given, else the seed itself.",
            examples=[8],
        ),
    ] = DRAW
    control_only: Annotated[
        bool,
        Field(
            title="Preprocess only",
            description="Render nothing: the result is what the preprocessor of the one control unit makes "
            "of its picture, or of the input.",
            examples=[True],
        ),
    ] = False
