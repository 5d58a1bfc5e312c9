"""Parameters of what is stored."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from img2img_shared.errors import Refused
from img2img_shared.param_groups.group import ParamGroup

#: what A1111 tells of its settings, and not of a request
CHURN = ("s_churn", "s_tmin", "s_tmax", "s_noise")


def _of_churn(text: str) -> str:
    given = [name.strip() for name in text.split(",")] if text else []
    if not set(given) <= set(CHURN):
        raise Refused("add_churn_to_info", text, f"give some of {', '.join(CHURN)}, with commas between them")
    return ", ".join(name for name in CHURN if name in given)


class OutputParams(ParamGroup):
    """How many pictures are made, and how they are stored."""

    images_per_input: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="Number of results for each input, with seeds that count up (A1111's `n_iter` × "
            "`batch_size`).",
            examples=[4],
        ),
    ] = 1
    output_format: Annotated[
        Literal["png", "jpeg", "webp"],
        Field(description="Format of the results; each holds its parameters as text.", examples=["webp"]),
    ] = "png"
    quality: Annotated[
        int | None,
        Field(
            ge=1,
            le=100,
            description="Quality of a JPEG or WebP; without a value, 95 for JPEG and lossless for WebP.",
            examples=[90],
        ),
    ] = None
    color_correction: Annotated[
        bool, Field(description="Match the colours of the result to those of the input.", examples=[True])
    ] = False
    textual_inversion_add_hashes_to_infotext: Annotated[
        bool,
        Field(
            title="Hashes of embeddings in infotext",
            description="Write the hashes of the textual inversions that prompts use into the infotext.",
            examples=[False],
        ),
    ] = True
    lora_add_hashes_to_infotext: Annotated[
        bool,
        Field(
            title="Hashes of LoRAs in infotext",
            description="Write the hashes of the LoRAs that prompts use into the infotext.",
            examples=[False],
        ),
    ] = True
    add_model_name_to_info: Annotated[
        bool,
        Field(
            title="Checkpoint name in infotext",
            description="Write the name of the checkpoint into the infotext.",
            examples=[False],
        ),
    ] = True
    add_model_hash_to_info: Annotated[
        bool,
        Field(
            title="Checkpoint hash in infotext",
            description="Write the hash of the checkpoint into the infotext.",
            examples=[False],
        ),
    ] = True
    add_vae_name_to_info: Annotated[
        bool,
        Field(
            title="VAE name in infotext",
            description="Write the name of the VAE into the infotext.",
            examples=[False],
        ),
    ] = True
    add_vae_hash_to_info: Annotated[
        bool,
        Field(
            title="VAE hash in infotext",
            description="Write the hash of the VAE into the infotext.",
            examples=[False],
        ),
    ] = True
    add_version_to_infotext: Annotated[
        bool,
        Field(
            title="Version in infotext",
            description="Write the program's version into the infotext.",
            examples=[False],
        ),
    ] = True
    save_init_img: Annotated[
        bool,
        Field(
            title="Hash of the init image in infotext",
            description="Write the MD5 of the init image's pixels into the infotext, as A1111 does where it "
            "keeps init images (the farm always does). An SD upscale of more than 16 tiles has none.",
            examples=[True],
        ),
    ] = False
    add_churn_to_info: Annotated[
        str,
        Field(
            title="Churn in infotext",
            max_length=40,
            description="Which of `s_churn`, `s_tmin`, `s_tmax` and `s_noise` to write into the infotext, "
            "with commas between them: A1111 writes those that its settings change.",
            examples=["s_churn, s_noise"],
        ),
        AfterValidator(_of_churn),
    ] = ""
