"""Parameters of the noise schedule."""

from typing import Annotated, Literal

from pydantic import Field

from img2img_shared.param_groups.as_given import AsGiven
from img2img_shared.param_groups.group import ParamGroup


class ScheduleParams(ParamGroup):
    """The noise levels that a sampler visits."""

    rho: Annotated[
        float,
        Field(
            ge=0,
            le=100,
            description="Exponent of the Karras and Polyexponential schedules; 0 stands for 7 and 1.",
            examples=[5.0],
        ),
        AsGiven(),
    ] = 0.0
    sigma_min: Annotated[
        float,
        Field(
            ge=0, le=1000, description="Lowest sigma of a named schedule; 0: the model's.", examples=[0.05]
        ),
        AsGiven(),
    ] = 0.0
    sigma_max: Annotated[
        float,
        Field(
            ge=0,
            le=10_000,
            description="Highest sigma of a named schedule; 0: the model's.",
            examples=[12.0],
        ),
        AsGiven(),
    ] = 0.0
    use_old_karras_scheduler_sigmas: Annotated[
        bool,
        Field(
            title="Old Karras sigmas",
            description="Let named schedules run from sigma 10 to 0.1 where no other sigmas are given.",
            examples=[True],
        ),
    ] = False
    beta_dist_alpha: Annotated[
        float,
        Field(
            title="Beta schedule alpha",
            ge=0.01,
            le=100,
            description="Alpha of the Beta schedule's distribution.",
            examples=[0.5],
        ),
        AsGiven(),
    ] = 0.6
    beta_dist_beta: Annotated[
        float,
        Field(
            title="Beta schedule beta",
            ge=0.01,
            le=100,
            description="Beta of the Beta schedule's distribution.",
            examples=[0.7],
        ),
        AsGiven(),
    ] = 0.6
    always_discard_next_to_last_sigma: Annotated[
        bool,
        Field(
            title="Discard next-to-last sigma",
            description="Schedule one more step, and leave out the last sigma above the end.",
            examples=[True],
        ),
    ] = False
    sd_noise_schedule: Annotated[
        Literal["Default", "Zero Terminal SNR"],
        Field(
            title="Noise schedule",
            description="The model's noise levels, or the same levels rescaled to end in pure noise. As in "
            "A1111, img2img uses it only with DDIM, PLMS and UniPC.",
            examples=["Zero Terminal SNR"],
        ),
    ] = "Default"
    use_downcasted_alpha_bar: Annotated[
        bool,
        Field(
            title="Noise levels in half precision",
            description="Round the model's noise levels to half precision, as A1111 did before 1.7. As in "
            "A1111, img2img uses them only with DDIM, PLMS and UniPC.",
            examples=[True],
        ),
    ] = False
    enable_quantization: Annotated[
        bool,
        Field(
            title="Whole timesteps",
            description="Tell the model the nearest timestep that it was trained on, and no fraction, as "
            "DDIM, PLMS and LCM always do.",
            examples=[True],
        ),
    ] = False
    sgm_noise_multiplier: Annotated[
        bool,
        Field(
            title="SGM noise multiplier",
            description="Start txt2img with slightly more noise, as Stability AI's own code does.",
            examples=[True],
        ),
    ] = False
