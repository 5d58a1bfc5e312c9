"""Parameters of pictures that are enlarged, and then rendered in tiles."""

from typing import Annotated

from pydantic import Field

from img2img_shared.param_groups.group import ParamGroup
from img2img_shared.upscaler_names import UpscalerName


class SdUpscaleParams(ParamGroup):
    """A1111's script "SD upscale": width and height are those of the tiles."""

    sd_upscale: Annotated[
        bool,
        Field(
            description="Enlarge the input, render it in tiles of width and height, and merge these.",
            examples=[True],
        ),
    ] = False
    sd_upscale_upscaler: Annotated[
        UpscalerName,
        Field(
            description="What enlarges it: Lanczos, Nearest, or a network by its file's name. None leaves it "
            "as large as it is.",
            examples=["Lanczos"],
        ),
    ] = "None"
    sd_upscale_factor: Annotated[
        float,
        Field(ge=1, le=8, description="Factor by which each side grows, to a multiple of 8.", examples=[4]),
    ] = 2.0
    sd_upscale_overlap: Annotated[
        int, Field(ge=0, le=512, description="Pixels by which tiles overlap, at least.", examples=[32])
    ] = 64
    sd_upscale_batch: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="Tiles that A1111 would render at a time: the first of each lot has the seed after "
            "the first of the one before, and the others count from there.",
            examples=[4],
        ),
    ] = 1
