"""The parameters of a render, with AUTOMATIC1111's names, defaults and meaning.

A value that is out of range, or that would have no effect on the chosen sampler, is refused by name:
nothing is accepted and ignored.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from img2img_shared.errors import Refused
from img2img_shared.hires import LARGEST as HIRES_MAX
from img2img_shared.hires import hires_size
from img2img_shared.names import (
    SAMPLER_OPTIONS,
    SAMPLERS,
    SCHEDULERS,
    find_scheduler,
    split_sampler,
    without_effect,
)
from img2img_shared.seeds import DRAW, SEED_MAX, SEED_MIN
from img2img_shared.steps import check_steps

#: prompts that the word AND joins: each is a row of every model call
MOST_PROMPTS = 32
#: least side that a seed is resized from, in pixels: below 8 is no noise, and one row has no angle to another
RESIZE_MIN = 16

#: pixels that the VAE makes one cell of
CELL = 8

#: what `enable_hr` alone gives a meaning
HIRES_FIELDS = (
    "hr_scale",
    "hr_resize_x",
    "hr_resize_y",
    "hr_upscaler",
    "hr_second_pass_steps",
    "hr_sampler_name",
    "hr_scheduler",
    "hr_checkpoint_name",
    "hr_prompt",
    "hr_negative_prompt",
)
Upscaler = Literal[
    "Latent",
    "Latent (antialiased)",
    "Latent (bicubic)",
    "Latent (bicubic antialiased)",
    "Latent (nearest)",
    "Latent (nearest-exact)",
    "None",
    "Lanczos",
    "Nearest",
]
#: context of validation: whoever wrote it has checked what has an effect, by the rules of its time
WRITTEN = {"written": True}

Pixels = Annotated[int, Field(ge=64, le=2048, json_schema_extra={"multipleOf": CELL})]
Seed = Annotated[int, Field(ge=SEED_MIN, le=SEED_MAX)]
Sigma = Annotated[float, Field(ge=0, le=256)]


def _bounded(prompt: str) -> str:
    n = len(prompts_of(prompt))
    if n > MOST_PROMPTS:
        allowed = f"up to {MOST_PROMPTS} prompts joined by AND; join fewer, or render them as several images"
        raise Refused("prompt", f"{n} prompts joined by AND", allowed)
    return prompt


def prompts_of(text: str) -> list[str]:
    """What the word AND joins."""
    return re.split(r"\bAND\b", text)


Text = Annotated[str, Field(max_length=20_000)]
Prompt = Annotated[Text, AfterValidator(_bounded)]


class Params(BaseModel):
    """How to render: one set for all the images of a job.

    >>> Params(denoising_strength=0.4, sampler_name="DPM++ 2M Karras").scheduler
    'Karras'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prompt: Prompt = ""
    negative_prompt: Text = ""
    steps: Annotated[int, Field(ge=1, le=150)] = 20
    #: guidance; 1 runs no negative branch
    cfg_scale: Annotated[float, Field(ge=0, le=100)] = 7.0
    #: 0 changes nothing but what the VAE loses, 1 runs the whole schedule
    denoising_strength: Annotated[float, Field(ge=0, le=1)] = 0.75
    odd_size: Annotated[
        bool,
        Field(description="Take sides that are no multiples of 8: the rest is cut off, as by A1111's API."),
    ] = False
    width: Pixels = 512
    height: Pixels = 512
    #: 0 just resize, 1 crop and resize, 2 resize and fill, 3 latent upscale
    resize_mode: Annotated[int, Field(ge=0, le=3)] = 0
    #: what enlarges a picture that is smaller than the render; "None" is Lanczos without the detour that
    #: A1111's "Lanczos" takes, by sides that are multiples of 8
    upscaler_for_img2img: Literal["None", "Lanczos", "Nearest"] = "None"

    #: Gaussian sigma in pixels, across and down
    mask_blur_x: Sigma = 4
    mask_blur_y: Sigma = 4
    #: binarise alpha masks (above 128) and the latent mask, else soft
    mask_round: bool = True
    #: 1: repaint what is not masked
    inpainting_mask_invert: Annotated[int, Field(ge=0, le=1)] = 0
    #: what masked pixels start from: 0 fill, 1 original, 2 latent noise, 3 latent nothing
    inpainting_fill: Annotated[int, Field(ge=0, le=3)] = 0
    #: "only masked": work on the masked region at full size, with a margin in pixels
    inpaint_full_res: bool = True
    inpaint_full_res_padding: Annotated[int, Field(ge=0, le=2048)] = 0
    inpainting_mask_weight: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="How much of what is repainted an inpainting checkpoint does not get to see; others "
            "see nothing anyway.",
        ),
    ] = 1.0
    #: lay the original over the result; without, a masked render is given as it is
    overlay_inpaint: bool = True
    #: give the mask, and the result where the mask is, beside each masked picture
    return_mask: bool = False
    return_mask_composite: bool = False

    #: scales the first noise
    initial_noise_multiplier: Annotated[float, Field(ge=0, le=10)] = 1.0
    #: so much more of the same noise is added after noising
    extra_noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    #: -1: drawn once by the producer, and recorded; others below 0 are seeds like any other
    seed: Seed = -1
    subseed: Seed = -1
    subseed_strength: Annotated[float, Field(ge=0, le=1)] = 0.0
    #: 0: off; both or neither, `RESIZE_MIN` at least
    seed_resize_from_w: Annotated[int, Field(ge=0, le=2048)] = 0
    seed_resize_from_h: Annotated[int, Field(ge=0, le=2048)] = 0
    #: output k uses seed + k, or all the same
    seed_mode: Literal["increment", "same"] = "increment"
    noise_source: Literal["cpu", "nv"] = "cpu"

    sampler_name: Annotated[str, Field(max_length=100)] = "Euler"
    scheduler: Annotated[str, Field(max_length=100)] = "Automatic"
    #: None: the sampler's own
    eta: Annotated[float, Field(ge=0, le=10)] | None = None
    s_churn: Annotated[float, Field(ge=0, le=1000)] = 0.0
    s_tmin: Annotated[float, Field(ge=0, le=1000)] = 0.0
    #: None: no upper end
    s_tmax: Annotated[float, Field(ge=0, le=1000)] | None = None
    s_noise: Annotated[float, Field(ge=0, le=10)] = 1.0
    #: below this sigma, every second step runs no negative branch
    s_min_uncond: Annotated[float, Field(ge=0, le=1000)] = 0.0
    tiling: Annotated[
        bool, Field(description="Let opposite edges fit each other: pictures that can be laid side by side.")
    ] = False
    pad_cond_uncond: Annotated[
        bool, Field(description="Fill up the shorter of prompt and negative prompt with the empty prompt.")
    ] = False
    pad_cond_uncond_v0: Annotated[
        bool,
        Field(description="As before A1111 1.6: repeat the negative prompt's last token, or cut it off."),
    ] = False
    s_min_uncond_all: Annotated[
        bool, Field(description="Below `s_min_uncond`, every step runs no negative branch, not every second.")
    ] = False
    skip_early_cond: Annotated[
        float, Field(ge=0, le=1, description="Share of the steps, from the first, without a negative branch.")
    ] = 0.0
    #: run exactly ``steps`` steps whatever the strength
    fix_steps: bool = False
    txt2img: Annotated[
        bool, Field(description="Begin with noise alone, at full strength: nothing of the picture is used.")
    ] = False

    enable_hr: Annotated[
        bool,
        Field(
            description="Hires fix: txt2img renders at `width` × `height`, and once more from what it has "
            "made, enlarged, with `denoising_strength`."
        ),
    ] = False
    hr_scale: Annotated[float, Field(ge=0.1, le=16, description="How much larger each side becomes.")] = 2.0
    hr_resize_x: Annotated[
        int, Field(ge=0, le=HIRES_MAX, description="Width of the larger picture; 0: as `hr_scale` says.")
    ] = 0
    hr_resize_y: Annotated[
        int, Field(ge=0, le=HIRES_MAX, description="Its height; what does not fit either is cut off.")
    ] = 0
    hr_upscaler: Annotated[
        Upscaler | None, Field(description='What enlarges it, its latent or its pixels; None: "Latent".')
    ] = None
    hr_second_pass_steps: Annotated[
        int, Field(ge=0, le=150, description="Steps of the second pass; 0: as many as of the first.")
    ] = 0
    hr_sampler_name: Annotated[
        str | None, Field(max_length=100, description="Sampler of the second pass; None: the first one's.")
    ] = None
    hr_scheduler: Annotated[
        str | None, Field(max_length=100, description="Schedule of the second pass; None: the first one's.")
    ] = None
    hr_checkpoint_name: Annotated[
        str | None,
        Field(max_length=1024, description="Checkpoint of the second pass: the job's own, or None for that."),
    ] = None
    hr_prompt: Annotated[
        str, Field(max_length=20_000, description="Prompt of the second pass; empty: the first one's.")
    ] = ""
    hr_negative_prompt: Annotated[
        str, Field(max_length=20_000, description="Negative prompt of the second pass, likewise.")
    ] = ""

    rho: Annotated[
        float,
        Field(ge=0, le=100, description="Exponent of the Karras and polyexponential schedules; 0: 7 and 1."),
    ] = 0.0
    sigma_min: Annotated[
        float, Field(ge=0, le=1000, description="Lowest sigma of a named schedule; 0: the model's.")
    ] = 0.0
    sigma_max: Annotated[
        float, Field(ge=0, le=10_000, description="Highest sigma of a named schedule; 0: the model's.")
    ] = 0.0
    use_old_karras_scheduler_sigmas: Annotated[
        bool, Field(description="Named schedules run from 10 to 0.1 where no other sigmas are given.")
    ] = False
    beta_dist_alpha: Annotated[
        float, Field(ge=0.01, le=100, description="Alpha of the beta schedule's distribution.")
    ] = 0.6
    beta_dist_beta: Annotated[
        float, Field(ge=0.01, le=100, description="Beta of the beta schedule's distribution.")
    ] = 0.6
    always_discard_next_to_last_sigma: Annotated[
        bool, Field(description="Schedule one more step, and leave out the last sigma above the end.")
    ] = False
    sd_noise_schedule: Annotated[
        Literal["Default", "Zero Terminal SNR"],
        Field(
            description="The model's noise levels, or these made to end in pure noise. As in A1111, img2img "
            "heeds it with the samplers that run on timesteps (DDIM, PLMS, UniPC) only."
        ),
    ] = "Default"
    sgm_noise_multiplier: Annotated[
        bool, Field(description="txt2img begins with the noise of Stability's own code: a little more.")
    ] = False
    eta_noise_seed_delta: Annotated[
        int,
        Field(
            ge=-(2**62),
            le=2**62,
            description="Added to the seed for the noises after the first one (ENSD).",
        ),
    ] = 0
    no_dpmpp_sde_batch_determinism: Annotated[
        bool, Field(description="Brownian noise as before A1111 1.1: over the run's own sigmas.")
    ] = False
    uni_pc_variant: Annotated[
        Literal["bh1", "bh2", "vary_coeff"], Field(description="Which B(h) of its paper UniPC uses.")
    ] = "bh1"
    uni_pc_skip_type: Annotated[
        Literal["time_uniform", "time_quadratic", "logSNR"],
        Field(description="How UniPC spaces its timesteps."),
    ] = "time_uniform"
    uni_pc_order: Annotated[
        int, Field(ge=1, le=50, description="Of UniPC; at most as many as the steps that are run.")
    ] = 3
    uni_pc_lower_order_final: Annotated[bool, Field(description="UniPC ends with steps of lower order.")] = (
        True
    )

    emphasis: Annotated[
        Literal["None", "Ignore", "Original", "No norm"],
        Field(
            description="What (word:1.3) does. None: it is text; Ignore: nothing; Original: it weighs the "
            "embeddings, whose mean is restored; No norm: it is not."
        ),
    ] = "Original"
    use_old_emphasis_implementation: Annotated[
        bool,
        Field(description="Prompts as before A1111's (word:1.3): brackets alone weigh, 75 tokens count."),
    ] = False
    comma_padding_backtrack: Annotated[
        int,
        Field(
            ge=0,
            le=74,
            description="A comma among so many last tokens of a chunk of 75 takes what follows to the next.",
        ),
    ] = 20
    sdxl_clip_l_skip: Annotated[
        bool, Field(description="`clip_skip` reaches the first text encoder of SDXL too.")
    ] = False
    sdxl_crop_top: Annotated[
        int, Field(ge=0, le=8192, description="From where SDXL is told that the picture was cropped.")
    ] = 0
    sdxl_crop_left: Annotated[
        int,
        Field(ge=0, le=8192, description="From where SDXL is told that the picture was cropped."),
    ] = 0
    textual_inversion_add_hashes_to_infotext: Annotated[
        bool, Field(description="Infotexts tell the hashes of the textual inversions that prompts name.")
    ] = True
    use_old_scheduling: Annotated[
        bool,
        Field(description="In [a:b:when], `when` below 1 is a share of the steps, and from 1 on a step."),
    ] = False
    disable_extra_networks: Annotated[
        bool, Field(description="<lora:...> is taken out of the prompt, and nothing else comes of it.")
    ] = False

    #: guidance by the picture, for instruct-pix2pix checkpoints only (there 1.5 where None)
    image_cfg_scale: Annotated[float, Field(ge=0, le=100)] | None = None
    #: the guidance that Flux.1 dev is told, for checkpoints of it only (there 3.5 where None)
    distilled_cfg_scale: Annotated[float, Field(ge=0, le=100)] | None = None
    #: 1: the text encoder's last layer, 2: the one before it, ...
    clip_skip: Annotated[int, Field(ge=1, le=12)] = 1
    #: match the result's colours to the prepared input's
    color_correction: bool = False
    #: "#rrggbb": what transparent init images are flattened on
    background: Annotated[str, Field(max_length=100)] = "#ffffff"
    #: A1111's ``n_iter`` × ``batch_size``
    images_per_input: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    output_format: Literal["png", "jpeg", "webp"] = "png"
    quality: Annotated[
        int | None,
        Field(ge=1, le=100, description="Of a JPEG (by default 95) or a WebP (by default without loss)."),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _mask_blur_sets_both(cls, values: Any) -> Any:
        if isinstance(values, dict) and "mask_blur" in values:
            values = dict(values)
            blur = values.pop("mask_blur")
            if blur is not None:
                values["mask_blur_x"] = values["mask_blur_y"] = blur
        return values

    @model_validator(mode="before")
    @classmethod
    def _sampler_name_may_hold_the_schedule(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name = values.get("sampler_name", "Euler")
        scheduler = values.get("scheduler")
        if not isinstance(name, str) or not isinstance(scheduler, str | None):
            return values  # the field's own type check says so
        sampler_name, scheduler = split_sampler(name, scheduler)
        return {**values, "sampler_name": sampler_name, "scheduler": scheduler}

    @model_validator(mode="before")
    @classmethod
    def _so_may_the_second_ones(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = dict(values)
        try:
            if isinstance(scheduler := values.get("hr_scheduler"), str):
                values["hr_scheduler"] = find_scheduler(scheduler)
            if isinstance(name := values.get("hr_sampler_name"), str):
                values["hr_sampler_name"], ending = split_sampler(name)
                if ending != "Automatic" and not scheduler:
                    values["hr_scheduler"] = ending
        except Refused as refused:
            raise Refused(f"hr_{refused.field}", refused.value, refused.allowed) from None
        return values

    @field_validator("width", "height")
    @classmethod
    def _side_is_of_whole_cells(cls, value: int, info: ValidationInfo) -> int:
        if value % CELL and not info.data.get("odd_size"):
            raise ValueError(f"a multiple of {CELL}")
        return value

    @field_validator("background")
    @classmethod
    def _background_is_a_colour(cls, value: str) -> str:
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
            raise Refused("background", value, 'a colour as "#rrggbb"')
        return value.lower()

    @model_validator(mode="after")
    def _hires_is_of_txt2img(self) -> Self:
        if self.enable_hr and not self.txt2img:
            raise Refused("enable_hr", True, "false, or true with txt2img")
        if self.enable_hr:
            hires_size(self)
            return self
        for name in HIRES_FIELDS:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise Refused(name, getattr(self, name), "nothing else without enable_hr")
        return self

    @model_validator(mode="after")
    def _nothing_is_ignored(self, info: ValidationInfo) -> Self:
        if info.context == WRITTEN:
            return self
        for name in sorted(without_effect(self.sampler_name, self.scheduler, txt2img=self.txt2img)):
            value = getattr(self, name)
            if value != type(self).model_fields[name].default and (name, value) != ("eta", 0.0):
                raise Refused(name, value, f"nothing else {_takers(name)}")
        check_steps(self)
        brownian = SAMPLERS[self.sampler_name].brownian_noise and not self.no_dpmpp_sde_batch_determinism
        if brownian and self.seed < DRAW:
            raise Refused("seed", self.seed, f"0 or more with {self.sampler_name!r}, or -1 to draw one")
        if self.quality is not None and self.output_format == "png":
            raise Refused("quality", self.quality, "nothing but with output_format jpeg or webp")
        sizes = self.seed_resize_from_w, self.seed_resize_from_h
        if any(sizes) and min(sizes) < RESIZE_MIN:
            allowed = f"both {RESIZE_MIN} or more, or both 0"
            raise Refused("seed_resize_from_w, seed_resize_from_h", sizes, allowed)
        return self


def _takers(name: str) -> str:
    """With which samplers or schedules a parameter has an effect, in words."""
    if name in SAMPLER_OPTIONS:
        return "but with " + ", ".join(sampler for sampler, has in SAMPLERS.items() if name in has.options)
    if name == "sgm_noise_multiplier":
        return "but with txt2img and a sampler that runs on sigmas"
    schedules = [each for each in SCHEDULERS if name not in without_effect("LMS", each)]
    if schedules:
        return f"but with a scheduler out of {', '.join(schedules)}, and a sampler that runs on it"
    return "but with " + ", ".join(
        sampler for sampler in SAMPLERS if name not in without_effect(sampler, "Automatic")
    )


def read_params(values: dict[str, Any]) -> Params:
    """Params from plain values, refused in one line for each field that is wrong.

    Raises:
        Refused: names field, value and what is allowed; several fields are joined in one message.
    """
    try:
        return Params(**values)
    except ValidationError as error:
        raise refusal(error) from None


def refusal(error: ValidationError, prefix: str = "") -> Refused:
    """pydantic's findings as one ``Refused``: field, value and what is allowed, for each.

    After a prefix in capitals, as environment variables have, the field is in capitals too.
    """
    names = [prefix + _path(item["loc"]) for item in error.errors()]
    first, *rest = [
        Refused(name.upper() if prefix.isupper() else name, item.get("input"), _allowed(item))
        for name, item in zip(names, error.errors(), strict=True)
    ]
    return Refused(first.field, first.value, "; ".join([first.allowed, *map(str, rest)]))


def _path(location: Iterable[int | str]) -> str:
    return ".".join(str(part) for part in location)


def _allowed(item: Any) -> str:
    name = item["loc"][0] if item["loc"] else ""
    if item["type"] == "extra_forbidden":
        return "no such parameter; known: mask_blur, " + ", ".join(Params.model_fields)
    if len(item["loc"]) == 1 and name in Params.model_fields:
        return allowed(name)
    if item["type"] == "string_pattern_mismatch":
        return f"text of the form {item['ctx']['pattern']}"
    return str(item["msg"]).removeprefix("Input should be ")


def allowed(name: str) -> str:
    """What a parameter may be, in words: ``"a whole number from 1 to 150"``."""
    schema = Params.model_json_schema()["properties"][name]
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    return _in_words(kinds[0]) + (" or nothing" if "anyOf" in schema else "")


def _in_words(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(map(repr, schema["enum"]))
    if schema["type"] == "boolean":
        return "true or false"
    if schema["type"] == "string":
        return f"text of at most {schema['maxLength']} characters" if "maxLength" in schema else "text"
    kind = "a whole number" if schema["type"] == "integer" else "a number"
    if "multipleOf" in schema:
        kind = f"a multiple of {schema['multipleOf']}"
    whole = schema["type"] == "integer"
    least, most = (int(end) if whole else f"{end:g}" for end in (schema["minimum"], schema["maximum"]))
    return f"{kind} from {least} to {most}"
