"""Parameters of A1111's Extras: pictures that are enlarged, and not rendered."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from img2img_shared.errors import Refused
from img2img_shared.param_groups.group import ParamGroup
from img2img_shared.upscaler_names import UpscalerName

#: most pixels of a side
LARGEST = 32_768


class ExtrasParams(ParamGroup):
    """What becomes of a picture without any checkpoint, as on A1111's page "Extras"."""

    extras: Annotated[
        bool,
        Field(
            title="Only enlarge",
            description="Enlarge the input as `upscaler_1` does, and render nothing: no prompt, no seed, no "
            "checkpoint has a part in it.",
            examples=[True],
        ),
    ] = False
    upscaler_1: Annotated[
        UpscalerName,
        Field(
            description="What enlarges the input: Lanczos, Nearest, or a network by its file's name. None "
            "leaves it as it is.",
            examples=["Lanczos"],
        ),
    ] = "None"
    upscaler_2: Annotated[
        UpscalerName,
        Field(
            description="What enlarges it a second time, from the start, to be laid over the first.",
            examples=["Nearest"],
        ),
    ] = "None"
    extras_upscaler_2_visibility: Annotated[
        float,
        Field(
            title="Upscaler 2 visibility",
            ge=0,
            le=1,
            description="Opacity of what the second upscaler makes.",
            examples=[0.5],
        ),
    ] = 0.0
    upscaling_resize: Annotated[
        float,
        Field(
            title="Resize by",
            ge=0.01,
            le=64,
            description="Factor by which each side grows, to a multiple of 8.",
            examples=[4],
        ),
    ] = 2.0
    upscaling_resize_w: Annotated[
        int,
        Field(
            title="Resize to width",
            ge=0,
            le=LARGEST,
            description="Width to be covered, in pixels, with the height; 0: by `upscaling_resize`.",
            examples=[1920],
        ),
    ] = 0
    upscaling_resize_h: Annotated[
        int,
        Field(
            title="Resize to height",
            ge=0,
            le=LARGEST,
            description="Height to be covered, in pixels, with the width; 0: by `upscaling_resize`.",
            examples=[1080],
        ),
    ] = 0
    upscaling_crop: Annotated[
        bool,
        Field(
            title="Crop to fit",
            description="Cut what covers a width and height to exactly that, from all sides alike.",
            examples=[False],
        ),
    ] = True

    gfpgan_visibility: Annotated[
        float,
        Field(
            title="GFPGAN visibility",
            ge=0,
            le=1,
            description="Opacity of the faces that GFPGAN restores.",
            examples=[1],
        ),
    ] = 0.0
    codeformer_visibility: Annotated[
        float,
        Field(
            title="CodeFormer visibility",
            ge=0,
            le=1,
            description="Opacity of the faces that CodeFormer restores.",
            examples=[1],
        ),
    ] = 0.0
    codeformer_weight: Annotated[
        float,
        Field(
            title="CodeFormer weight",
            ge=0,
            le=1,
            description="How much of a face CodeFormer leaves as it is in Extras; 0: most changes.",
            examples=[0.5],
        ),
    ] = 0.0

    @model_validator(mode="after")
    def _width_and_height_go_together(self) -> Self:
        size = self.upscaling_resize_w, self.upscaling_resize_h
        if any(size) and not all(size):
            raise Refused("upscaling_resize_w, upscaling_resize_h", size, "give both, or neither")
        return self
