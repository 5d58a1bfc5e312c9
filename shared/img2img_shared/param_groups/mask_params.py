"""Parameters of masks."""

from typing import Annotated

from pydantic import Field

from img2img_shared.modes import InpaintingFill
from img2img_shared.param_groups.as_given import AsGiven
from img2img_shared.param_groups.group import ParamGroup

Sigma = Annotated[float, Field(ge=0, le=256)]


class MaskParams(ParamGroup):
    """Which pixels are repainted, and from what. White in a mask is repainted."""

    mask_blur_x: Annotated[
        Sigma,
        Field(
            title="Mask blur, across",
            description="Blur of the mask across: the sigma of a Gaussian, in pixels. `mask_blur` sets both.",
            examples=[8],
        ),
    ] = 4
    mask_blur_y: Annotated[
        Sigma,
        Field(
            title="Mask blur, down",
            description="Blur of the mask down: the sigma of a Gaussian, in pixels. `mask_blur` sets both.",
            examples=[8],
        ),
    ] = 4
    mask_round: Annotated[
        bool,
        Field(
            title="Round the mask",
            description="Make the mask black and white; otherwise it stays soft.",
            examples=[False],
        ),
    ] = True
    inpainting_mask_invert: Annotated[
        int,
        Field(
            title="Inpaint not masked", ge=0, le=1, description="1: repaint what is not masked.", examples=[1]
        ),
    ] = 0
    inpainting_fill: Annotated[
        InpaintingFill,
        Field(title="Masked content", description="What masked pixels start from.", examples=[1]),
    ] = InpaintingFill.FILL
    fill_noise_seed_delta: Annotated[
        int,
        Field(
            title="Seed offset of latent noise",
            ge=-(2**62),
            le=2**62,
            description="Number added to the seed for the noise that masked pixels start from with "
            "`inpainting_fill` 2; with `n_iter`, A1111 takes that of the first iteration for all.",
            examples=[-1],
        ),
    ] = 0
    inpaint_full_res: Annotated[
        bool,
        Field(
            title="Only masked",
            description='"Only masked": enlarge the masked region to the full size, and render that alone.',
            examples=[False],
        ),
    ] = True
    inpaint_full_res_padding: Annotated[
        int,
        Field(
            title="Only masked padding",
            ge=0,
            le=2048,
            description='Margin around the masked region for "only masked", in pixels.',
            examples=[32],
        ),
    ] = 0
    inpainting_mask_weight: Annotated[
        float,
        Field(
            title="Conditional mask weight",
            ge=0,
            le=1,
            description="How strongly the masked part is hidden from an inpainting checkpoint.",
            examples=[0.5],
        ),
        AsGiven(),
    ] = 1.0
    overlay_inpaint: Annotated[
        bool,
        Field(
            title="Overlay the original",
            description="Lay the unmasked part of the original over the result.",
            examples=[False],
        ),
    ] = True
    return_mask: Annotated[
        bool, Field(description="Store the mask beside each masked result.", examples=[True])
    ] = False
    return_mask_composite: Annotated[
        bool,
        Field(description="Store the repainted part alone beside each masked result.", examples=[True]),
    ] = False
