"""Parameters of guidance."""

from typing import Annotated

from pydantic import Field

from img2img_shared.param_groups.as_given import AsGiven
from img2img_shared.param_groups.group import ParamGroup

Scale = Annotated[float, Field(ge=0, le=100)]


class GuidanceParams(ParamGroup):
    """How strongly the prompt leads."""

    cfg_scale: Annotated[
        Scale,
        Field(
            title="CFG scale",
            description="How strongly the prompt leads; 1 ignores the negative prompt, in half the time.",
            examples=[5.5],
        ),
    ] = 7.0
    image_cfg_scale: Annotated[
        Scale | None,
        Field(
            title="Image CFG scale",
            description="How strongly the input picture leads, for instruct-pix2pix checkpoints; without a "
            "value, 1.5.",
            examples=[1.2],
        ),
    ] = None
    distilled_cfg_scale: Annotated[
        Scale | None,
        Field(
            title="Distilled CFG scale",
            description="Guidance of Flux.1 dev; without a value, 3.5.",
            examples=[3.0],
        ),
    ] = None
    s_min_uncond: Annotated[
        float,
        Field(
            title="Negative guidance minimum sigma",
            ge=0,
            le=1000,
            description="Sigma below which every second step leaves out the negative prompt.",
            examples=[1.0],
        ),
        AsGiven(),
    ] = 0.0
    s_min_uncond_all: Annotated[
        bool,
        Field(
            title="Negative guidance minimum sigma, all steps",
            description="Leave out the negative prompt in every step below `s_min_uncond`.",
            examples=[True],
        ),
    ] = False
    skip_early_cond: Annotated[
        float,
        Field(
            title="Ignore negative prompt during early steps",
            ge=0,
            le=1,
            description="Share of the steps, from the first, that leave out the negative prompt.",
            examples=[0.1],
        ),
        AsGiven(),
    ] = 0.0
    pad_cond_uncond: Annotated[
        bool,
        Field(
            title="Pad prompts",
            description="Pad the shorter of prompt and negative prompt with the empty prompt.",
            examples=[True],
        ),
    ] = False
    pad_cond_uncond_v0: Annotated[
        bool,
        Field(
            title="Pad prompts as before 1.6",
            description="As A1111 before 1.6: repeat the last token of the negative prompt, or cut it off.",
            examples=[True],
        ),
    ] = False
