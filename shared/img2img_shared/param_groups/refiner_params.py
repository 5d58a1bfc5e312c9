"""Parameters of a refiner."""

from typing import Annotated, Literal

from pydantic import Field

from img2img_shared.param_groups.group import ParamGroup


class RefinerParams(ParamGroup):
    """Another checkpoint that takes over within the steps of a render."""

    refiner_checkpoint: Annotated[
        str | None,
        Field(
            max_length=1024,
            description="Checkpoint in the workers' models folder that takes over at `refiner_switch_at`.",
            examples=["sd_xl_refiner_1.0"],
            json_schema_extra={"x-files": "checkpoint"},
        ),
    ] = None
    refiner_switch_at: Annotated[
        float | None,
        Field(
            title="Switch at",
            ge=0,
            le=1,
            description="Share of the noise levels, from the highest, after which the refiner takes over; "
            "without a value, at once.",
            examples=[0.8],
        ),
    ] = None
    refiner_switch_by_sample_steps: Annotated[
        bool,
        Field(
            title="Switch by sampling steps",
            description="`refiner_switch_at` is a share of the steps that are run.",
            examples=[True],
        ),
    ] = False
    hires_fix_refiner_pass: Annotated[
        Literal["first pass", "second pass", "both passes"],
        Field(
            title="Refiner in hires fix",
            description="Which passes of a hires fix the refiner has a part in.",
            examples=["both passes"],
        ),
    ] = "second pass"  # noqa: S105 (no password)
    sdxl_refiner_low_aesthetic_score: Annotated[
        float,
        Field(
            title="Low aesthetic score",
            ge=0,
            le=100,
            description="Aesthetic score that an SDXL refiner is told of the negative prompt.",
            examples=[1],
        ),
    ] = 2.5
    sdxl_refiner_high_aesthetic_score: Annotated[
        float,
        Field(
            title="High aesthetic score",
            ge=0,
            le=100,
            description="Aesthetic score that an SDXL refiner is told of the prompt.",
            examples=[8],
        ),
    ] = 6.0
