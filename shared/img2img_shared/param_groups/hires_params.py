"""Parameters of the hires fix."""

from typing import Annotated

from pydantic import Field

from img2img_shared.param_groups.group import ParamGroup
from img2img_shared.upscaler_names import UpscalerName

#: most pixels of a side
LARGEST = 4096


class HiresParams(ParamGroup):
    """txt2img in two passes: a small picture, enlarged, and rendered again."""

    enable_hr: Annotated[
        bool,
        Field(
            title="Hires fix",
            description="Render txt2img at `width` × `height`, enlarge that, and render it again with "
            "`denoising_strength`.",
            examples=[True],
        ),
    ] = False
    hr_scale: Annotated[
        float,
        Field(
            title="Upscale by", ge=0.1, le=16, description="Factor by which each side grows.", examples=[1.5]
        ),
    ] = 2.0
    hr_resize_x: Annotated[
        int,
        Field(
            title="Resize width to",
            ge=0,
            le=LARGEST,
            description="Width of the enlarged picture, in pixels; 0: by `hr_scale`.",
            examples=[1024],
        ),
    ] = 0
    hr_resize_y: Annotated[
        int,
        Field(
            title="Resize height to",
            ge=0,
            le=LARGEST,
            description="Height of the enlarged picture, in pixels; what does not fit both is cut off.",
            examples=[1024],
        ),
    ] = 0
    hr_upscaler: Annotated[
        UpscalerName | None,
        Field(
            title="Upscaler",
            description="What enlarges the latent (Latent, Latent (antialiased), Latent (bicubic), Latent "
            "(bicubic antialiased), Latent (nearest), Latent (nearest-exact)) or, as in "
            "`upscaler_for_img2img`, the picture; without a value, Latent.",
            examples=["Latent (nearest-exact)"],
        ),
    ] = None
    hr_second_pass_steps: Annotated[
        int,
        Field(
            title="Hires steps",
            ge=0,
            le=150,
            description="Steps of the second pass; 0: as many as `steps`.",
            examples=[15],
        ),
    ] = 0
    hr_sampler_name: Annotated[
        str | None,
        Field(
            title="Hires sampling method",
            max_length=100,
            description="Sampler of the second pass; without a value, the first one's.",
            examples=["DPM++ 2M Karras"],
        ),
    ] = None
    hr_scheduler: Annotated[
        str | None,
        Field(
            title="Hires schedule type",
            max_length=100,
            description="Noise schedule of the second pass; without a value, the first one's.",
            examples=["Karras"],
        ),
    ] = None
    hr_checkpoint_name: Annotated[
        str | None,
        Field(
            title="Hires checkpoint",
            max_length=1024,
            description="Checkpoint of the second pass; without a value, the job's own.",
            examples=["sd15"],
            json_schema_extra={"x-files": "checkpoint"},
        ),
    ] = None
    hr_prompt: Annotated[
        str,
        Field(
            title="Hires prompt",
            max_length=20_000,
            description="Prompt of the second pass; if empty, the first one's.",
            examples=["an oil painting, fine detail"],
        ),
    ] = ""
    hr_negative_prompt: Annotated[
        str,
        Field(
            title="Hires negative prompt",
            max_length=20_000,
            description="Negative prompt of the second pass; if empty, the first one's.",
            examples=["blurry"],
        ),
    ] = ""
    hires_fix_use_firstpass_conds: Annotated[
        bool,
        Field(
            title="First pass' LoRAs read hires prompts",
            description="Read the prompts of the second pass with the LoRAs of the first one's; those of its "
            "own act on the picture alone.",
            examples=[True],
        ),
    ] = False
    token_merging_ratio_hr: Annotated[
        float,
        Field(
            title="Token merging ratio for hires fix",
            ge=0,
            le=0.9,
            description="`token_merging_ratio` of the second pass; 0: the first one's.",
            examples=[0.5],
        ),
    ] = 0.0
