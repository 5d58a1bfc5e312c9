"""Parameters of the networks beside the denoiser."""

from typing import Annotated, Literal

from pydantic import Field

from img2img_shared.param_groups.group import ParamGroup

VaeMethod = Literal["Full", "TAESD"]


class ModelParams(ParamGroup):
    """What else than the checkpoint's own networks is used."""

    token_merging_ratio: Annotated[
        float,
        Field(
            ge=0,
            le=0.9,
            description="Share of the picture's places that are merged before self-attention, 0.75 at most: "
            "faster and coarser. For SD 1.x, 2.x and XL.",
            examples=[0.5],
        ),
    ] = 0.0
    vae: Annotated[
        str,
        Field(
            title="VAE",
            min_length=1,
            max_length=255,
            description="File name of the VAE. Automatic: one that is named like the checkpoint, or else "
            "the checkpoint's own. None: the checkpoint's own.",
            examples=["sd-vae-ft-mse.safetensors"],
            json_schema_extra={"x-files": "vae"},
        ),
    ] = "Automatic"
    sd_vae_overrides_per_model_preferences: Annotated[
        bool,
        Field(
            title="VAE comes before the checkpoint's",
            description="If not: a VAE that is named like the checkpoint comes before `vae`.",
            examples=[False],
        ),
    ] = True
    sd_vae_encode_method: Annotated[
        VaeMethod,
        Field(
            title="VAE for encoding",
            description="Encode by the VAE, or by the small TAESD in its place.",
            examples=["TAESD"],
        ),
    ] = "Full"
    sd_vae_decode_method: Annotated[
        VaeMethod,
        Field(
            title="VAE for decoding",
            description="Decode by the VAE, or by the small TAESD in its place.",
            examples=["TAESD"],
        ),
    ] = "Full"
    show_progress_type: Annotated[
        Literal["Approx NN", "Approx cheap", "TAESD"],
        Field(
            title="Live preview",
            description="What shows a picture under way: its colours (either Approx), or what TAESD decodes.",
            examples=["TAESD"],
        ),
    ] = "Approx NN"
