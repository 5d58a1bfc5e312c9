"""Parameters of soft inpainting."""

from typing import Annotated

from pydantic import Field

from img2img_shared.param_groups.as_given import AsGiven
from img2img_shared.param_groups.group import ParamGroup


class SoftInpaintingParams(ParamGroup):
    """Masks with soft edges, blended step by step. The values have the names of A1111's script."""

    soft_inpainting: Annotated[
        bool,
        Field(
            description="Keep half of the original where the mask is half white, step by step, and show the "
            "original where little has changed. The mask stays soft.",
            examples=[True],
        ),
    ] = False
    mask_blend_power: Annotated[
        float,
        Field(
            title="Schedule bias",
            ge=0,
            le=8,
            description="Schedule bias: above 1, the first steps keep more of the original; below, the last.",
            examples=[2],
        ),
        AsGiven(),
    ] = 1
    mask_blend_scale: Annotated[
        float,
        Field(
            title="Preservation strength",
            ge=0,
            le=8,
            description="Preservation strength: how much of the original half-masked parts keep.",
            examples=[1],
        ),
        AsGiven(),
    ] = 0.5
    inpaint_detail_preservation: Annotated[
        float,
        Field(
            title="Transition contrast boost",
            ge=1,
            le=32,
            description="Transition contrast boost: how much of their contrast half-masked parts keep.",
            examples=[8],
        ),
        AsGiven(),
    ] = 4
    composite_mask_influence: Annotated[
        float,
        Field(
            title="Mask influence",
            ge=0,
            le=1,
            description="How much the mask decides where the original shows; 0: the change alone.",
            examples=[0.5],
        ),
        AsGiven(),
    ] = 0
    composite_difference_threshold: Annotated[
        float,
        Field(
            title="Difference threshold",
            ge=0,
            le=8,
            description="Change of a latent cell at which half of the original shows.",
            examples=[1],
        ),
        AsGiven(),
    ] = 0.5
    composite_difference_contrast: Annotated[
        float,
        Field(
            title="Difference contrast",
            ge=0,
            le=8,
            description="How suddenly the original gives way around that change.",
            examples=[4],
        ),
        AsGiven(),
    ] = 2
