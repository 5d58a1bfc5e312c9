"""Parameters of the sampler."""

from typing import Annotated, Literal

from pydantic import Field

from img2img_shared.param_groups.as_given import AsGiven
from img2img_shared.param_groups.group import ParamGroup
from img2img_shared.samplers import SAMPLERS, SCHEDULERS


class SamplingParams(ParamGroup):
    """The sampler, its steps and its options."""

    steps: Annotated[
        int,
        Field(
            title="Sampling steps",
            ge=1,
            le=150,
            description="Steps of the whole schedule; `denoising_strength` says how many of them are run.",
            examples=[30],
        ),
    ] = 20
    sampler_name: Annotated[
        str,
        Field(
            title="Sampling method",
            max_length=100,
            description=f"The sampler: {', '.join(SAMPLERS)}. The name may end in a schedule's.",
            examples=["DPM++ 2M Karras"],
        ),
    ] = "Euler"
    scheduler: Annotated[
        str,
        Field(
            title="Schedule type",
            max_length=100,
            description=f"The noise schedule: {', '.join(SCHEDULERS)}. Automatic is the sampler's own.",
            examples=["Karras"],
        ),
    ] = "Automatic"
    fix_steps: Annotated[
        bool, Field(description="Run exactly `steps` steps, whatever the strength.", examples=[True])
    ] = False
    tiling: Annotated[
        bool,
        Field(
            description="Make opposite edges match, so that copies of the picture can be laid side by side.",
            examples=[True],
        ),
    ] = False
    eta: Annotated[
        float | None,
        Field(
            ge=0,
            le=10,
            description="Noise of ancestral samplers and DDIM; without a value, the sampler's own.",
            examples=[0.5],
        ),
        AsGiven(),
    ] = None
    s_churn: Annotated[
        float,
        Field(
            title="Sigma churn",
            ge=0,
            le=1000,
            description="Noise that Euler, Heun and DPM2 add at each step.",
            examples=[10.0],
        ),
        AsGiven(),
    ] = 0.0
    s_tmin: Annotated[
        float,
        Field(
            title="Sigma tmin",
            ge=0,
            le=1000,
            description="Lowest sigma at which `s_churn` acts.",
            examples=[0.05],
        ),
        AsGiven(),
    ] = 0.0
    s_tmax: Annotated[
        float | None,
        Field(
            title="Sigma tmax",
            ge=0,
            le=1000,
            description="Highest sigma at which `s_churn` acts; without a value, there is no limit.",
            examples=[50.0],
        ),
        AsGiven(),
    ] = None
    s_noise: Annotated[
        float,
        Field(
            title="Sigma noise",
            ge=0,
            le=10,
            description="Factor of the noise that the sampler adds.",
            examples=[1.003],
        ),
        AsGiven(),
    ] = 1.0
    uni_pc_variant: Annotated[
        Literal["bh1", "bh2", "vary_coeff"],
        Field(
            title="UniPC variant", description="Variant of UniPC: which B(h) of its paper.", examples=["bh2"]
        ),
    ] = "bh1"
    uni_pc_skip_type: Annotated[
        Literal["time_uniform", "time_quadratic", "logSNR"],
        Field(title="UniPC skip type", description="How UniPC spaces its timesteps.", examples=["logSNR"]),
    ] = "time_uniform"
    uni_pc_order: Annotated[
        int,
        Field(
            title="UniPC order",
            ge=1,
            le=50,
            description="Order of UniPC; at most the number of steps that are run.",
            examples=[2],
        ),
    ] = 3
    uni_pc_lower_order_final: Annotated[
        bool,
        Field(
            title="UniPC lower order final",
            description="End UniPC with steps of lower order.",
            examples=[False],
        ),
    ] = True
