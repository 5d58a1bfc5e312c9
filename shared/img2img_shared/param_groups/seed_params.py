"""Parameters of seeds and noise."""

from typing import Annotated, Literal

from pydantic import Field

from img2img_shared.param_groups.group import ParamGroup
from img2img_shared.seeds import SEED_MAX, SEED_MIN

Seed = Annotated[int, Field(ge=SEED_MIN, le=SEED_MAX)]


class SeedParams(ParamGroup):
    """Which noise a picture starts from, and how it varies."""

    seed: Annotated[
        Seed,
        Field(description="Seed of the first output; -1 draws one, which is recorded.", examples=[7]),
    ] = -1
    seed_mode: Annotated[
        Literal["increment", "same"],
        Field(description="increment: output k uses seed + k. same: all use one seed.", examples=["same"]),
    ] = "increment"
    subseed: Annotated[
        Seed,
        Field(
            title="Variation seed",
            description="Seed of a second noise to mix in; -1 draws one.",
            examples=[8],
        ),
    ] = -1
    subseed_strength: Annotated[
        float,
        Field(
            title="Variation strength",
            ge=0,
            le=1,
            description="Share of the second noise: 0 uses the seed alone, 1 the subseed alone.",
            examples=[0.2],
        ),
    ] = 0.0
    seed_resize_from_w: Annotated[
        int,
        Field(
            title="Resize seed from width",
            ge=0,
            le=2048,
            description="Width of a picture whose composition this seed should keep, in pixels; 0: off.",
            examples=[512],
        ),
    ] = 0
    seed_resize_from_h: Annotated[
        int,
        Field(
            title="Resize seed from height",
            ge=0,
            le=2048,
            description="Height of a picture whose composition this seed should keep, in pixels; 0: off.",
            examples=[512],
        ),
    ] = 0
    noise_source: Annotated[
        Literal["cpu", "nv"],
        Field(
            title="Random number generator",
            description="Random numbers of the CPU, or those of an NVIDIA GPU (computed anywhere).",
            examples=["nv"],
        ),
    ] = "cpu"
    eta_noise_seed_delta: Annotated[
        int,
        Field(
            title="Eta noise seed delta (ENSD)",
            ge=-(2**62),
            le=2**62,
            description="Number added to the seed for all noise after the first (ENSD).",
            examples=[31337],
        ),
    ] = 0
    no_dpmpp_sde_batch_determinism: Annotated[
        bool,
        Field(
            title="Old SDE noise",
            description="Draw the noise of the SDE samplers as A1111 did before 1.1: over the sigmas of the "
            "run.",
            examples=[True],
        ),
    ] = False
