"""The bodies of ``img2img`` and ``txt2img``: A1111's fields, types and defaults."""

import math
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    field_validator,
    model_validator,
)

from img2img_shared.errors import Refused, Summary

_PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="


def _without_fraction(value: Any) -> Any:
    return math.trunc(value) if isinstance(value, float) and math.isfinite(value) else value


def _map_of(value: Any) -> Any:
    return {} if value == [] else value


#: characters of a prompt, as many as a job's may have
LONGEST_PROMPT = 20_000
#: a prompt; and the name of something
Prompt = Annotated[str, Field(max_length=LONGEST_PROMPT)]
Name = Annotated[str, Field(max_length=1000)]
#: A1111 cuts a fraction off where it wants a whole number, and takes an empty list for an empty map
Whole = Annotated[int, BeforeValidator(_without_fraction)]
Map = Annotated[dict[str, Any], BeforeValidator(_map_of)]


#: pictures of one call
MOST_IMAGES = 1000
#: switches that are on by default, and off in A1111 where they are null
_OFF_IF_NULL = frozenset({"inpaint_full_res", "mask_round", "override_settings_restore_afterwards"})


class RenderRequest(BaseModel):
    """The fields that both requests share. Names that A1111 does not know are kept apart, for a warning."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, coerce_numbers_to_str=True)

    prompt: Prompt = ""
    negative_prompt: Prompt = ""
    styles: list[Name] | None = None
    seed: Whole = -1
    subseed: Whole = -1
    subseed_strength: float = 0
    seed_resize_from_h: Whole = -1
    seed_resize_from_w: Whole = -1
    sampler_name: Name | None = None
    scheduler: Name | None = None
    batch_size: Annotated[Whole, Field(ge=1, le=100)] = 1
    n_iter: Annotated[Whole, Field(ge=1, le=100)] = 1
    steps: Whole = 50
    cfg_scale: float = 7.0
    width: Whole = 512
    height: Whole = 512
    restore_faces: bool | None = None
    tiling: bool | None = None
    do_not_save_samples: bool = False
    do_not_save_grid: bool = False
    eta: float | None = None
    denoising_strength: float | None = None
    s_min_uncond: float | None = None
    s_churn: float | None = None
    s_tmax: float | None = None
    s_tmin: float | None = None
    s_noise: float | None = None
    override_settings: Map | None = None
    override_settings_restore_afterwards: bool = True
    refiner_checkpoint: Name | None = None
    refiner_switch_at: float | None = None
    disable_extra_networks: bool = False
    firstpass_image: str | None = None
    comments: dict[str, Any] | None = None
    force_task_id: str | None = Field(None, max_length=200)
    #: older clients' name of `sampler_name`
    sampler_index: Name = "Euler"
    script_name: Name | None = None
    script_args: list[Any] = []
    send_images: bool = True
    save_images: bool = False
    alwayson_scripts: Map = {}
    infotext: str | None = Field(None, max_length=100_000)
    #: Forge's
    distilled_cfg_scale: float | None = None

    #: fields that were sent as null, which means their default, or off
    _nulls: frozenset[str] = PrivateAttr(frozenset())

    @property
    def nulls(self) -> frozenset[str]:
        """Fields that were sent as null."""
        return self._nulls

    @property
    def unknown(self) -> list[str]:
        """Fields that A1111 does not know."""
        return sorted(self.model_extra or {})

    @model_validator(mode="after")
    def _not_too_many(self) -> Self:
        if self.n_iter * self.batch_size > MOST_IMAGES:
            raise Refused(
                "n_iter",
                Summary(f"{self.n_iter} times {self.batch_size} pictures"),
                f"ask for at most {MOST_IMAGES} in one call; for more, submit a job (POST /v1/jobs)",
            )
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _null_means_the_default(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(values, dict):
            return handler(values)
        nulls = {name for name, value in values.items() if value is None}
        off = dict.fromkeys(nulls & cls.model_fields.keys() & _OFF_IF_NULL, False)
        body = handler({name: value for name, value in values.items() if value is not None} | off)
        body._nulls = frozenset(nulls) & cls.model_fields.keys()
        return body

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
    denoising_strength: float | None = 0.75
    resize_mode: Whole = 0
    image_cfg_scale: float | None = None
    mask: str | None = None
    mask_blur_x: Whole = 4
    mask_blur_y: Whole = 4
    mask_blur: Whole | None = None
    mask_round: bool = True
    inpainting_fill: Whole = 0
    inpaint_full_res: bool = True
    inpaint_full_res_padding: Whole = 0
    inpainting_mask_invert: Whole = 0
    initial_noise_multiplier: float | None = None
    latent_mask: str | None = None
    include_init_images: bool = False


class Txt2ImgRequest(RenderRequest):
    """``POST /sdapi/v1/txt2img``: a render from pure noise, and with `enable_hr` a second pass over it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "a harbour", "steps": 20, "width": 64, "height": 64}]}
    )

    enable_hr: bool = False
    firstphase_width: Whole = 0
    firstphase_height: Whole = 0
    hr_scale: float = 2.0
    hr_upscaler: Name | None = None
    hr_second_pass_steps: Whole = 0
    hr_resize_x: Whole = 0
    hr_resize_y: Whole = 0
    hr_checkpoint_name: Name | None = None
    hr_sampler_name: Name | None = None
    hr_scheduler: Name | None = None
    hr_prompt: Prompt = ""
    hr_negative_prompt: Prompt = ""


class RenderResponse(BaseModel):
    """A1111's answer."""

    #: base64, without a data: prefix
    images: list[str]
    #: the request, with every default
    parameters: dict[str, Any]
    #: JSON in a string
    info: str
