"""The bodies of ``img2img`` and ``txt2img``: A1111's fields, its types, its defaults."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="


class RenderRequest(BaseModel):
    """What both have in common. Names that A1111 does not know either are left alone, as it leaves them."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    prompt: str = ""
    negative_prompt: str = ""
    styles: list[str] = []
    seed: int = -1
    subseed: int = -1
    subseed_strength: float = 0
    seed_resize_from_h: int = -1
    seed_resize_from_w: int = -1
    sampler_name: str | None = None
    scheduler: str | None = None
    #: older clients' name of `sampler_name`
    sampler_index: str = "Euler"
    batch_size: int = Field(1, ge=1, le=100)
    n_iter: int = Field(1, ge=1, le=100)
    steps: int = 50
    cfg_scale: float = 7.0
    #: Forge's
    distilled_cfg_scale: float | None = None
    width: int = 512
    height: int = 512
    restore_faces: bool | None = None
    tiling: bool | None = None
    do_not_save_samples: bool = False
    do_not_save_grid: bool = False
    eta: float | None = None
    denoising_strength: float = 0.75
    s_min_uncond: float | None = None
    s_churn: float | None = None
    s_tmax: float | None = None
    s_tmin: float | None = None
    s_noise: float | None = None
    override_settings: dict[str, Any] = {}
    override_settings_restore_afterwards: bool = True
    refiner_checkpoint: str | None = None
    refiner_switch_at: float | None = None
    disable_extra_networks: bool = False
    firstpass_image: str | None = None
    comments: dict[str, Any] = {}
    force_task_id: str | None = Field(None, max_length=200)
    script_name: str | None = None
    script_args: list[Any] = []
    send_images: bool = True
    save_images: bool = False
    alwayson_scripts: dict[str, Any] = {}
    infotext: str | None = Field(None, max_length=100_000)

    @model_validator(mode="before")
    @classmethod
    def _null_means_the_default(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value is not None}

    @field_validator("seed", "subseed", mode="before")
    @classmethod
    def _seed_may_be_empty(cls, value: Any) -> Any:
        return -1 if value == "" else value


class Img2ImgRequest(RenderRequest):
    """``POST /sdapi/v1/img2img``."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "init_images": [_PICTURE],
                    "prompt": "an oil painting of a harbour",
                    "denoising_strength": 0.5,
                    "steps": 20,
                    "width": 64,
                    "height": 64,
                }
            ]
        }
    )

    init_images: list[str] | None = None
    resize_mode: int = 0
    image_cfg_scale: float | None = None
    mask: str | None = None
    mask_blur_x: float = 4
    mask_blur_y: float = 4
    mask_blur: float | None = None
    mask_round: bool = True
    inpainting_fill: int = 0
    inpaint_full_res: bool = True
    inpaint_full_res_padding: int = 0
    inpainting_mask_invert: int = 0
    initial_noise_multiplier: float | None = None
    latent_mask: str | None = None
    include_init_images: bool = False


class Txt2ImgRequest(RenderRequest):
    """``POST /sdapi/v1/txt2img``: a render from pure noise. High-resolution fixes are refused."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "a harbour", "steps": 20, "width": 64, "height": 64}]}
    )

    enable_hr: bool = False


class RenderResponse(BaseModel):
    """A1111's answer."""

    #: base64, without a data: prefix
    images: list[str]
    #: the request, with every default
    parameters: dict[str, Any]
    #: JSON in a string
    info: str
