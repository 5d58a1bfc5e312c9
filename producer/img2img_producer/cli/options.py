"""Every parameter of a render as a command-line option, made from `Params`' own fields."""

import inspect
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from img2img_shared.errors import Refused
from img2img_shared.hires import LATENT_UPSCALERS, UPSCALERS
from img2img_shared.names import SAMPLERS, SCHEDULERS
from img2img_shared.params import Params
from img2img_shared.seeds import SEED_MAX

#: what `--help` says of each parameter, by the panel it stands in; ranges and defaults are added
HELP: dict[str, dict[str, str]] = {
    "Picture": {
        "prompt": "What the picture should show.",
        "negative_prompt": "What it should not show.",
        "denoising_strength": "How much changes: 0 nothing but what the VAE loses, 1 everything.",
        "width": "Of the result, in pixels.",
        "height": "Of the result, in pixels.",
        "resize_mode": "0 just resize, 1 crop and resize, 2 resize and fill, 3 latent upscale.",
        "upscaler_for_img2img": "Enlarges a picture smaller than its result: None, Lanczos or Nearest.",
        "images_per_input": "Outputs of each input, with seeds that count up.",
        "background": 'What transparent inputs are laid on, as "#rrggbb".',
        "output_format": "png, jpeg or webp; each holds its parameters as text.",
        "quality": str(Params.model_fields["quality"].description),
    },
    "Mask (white is repainted)": {
        "mask_blur_x": "Gaussian sigma across, in pixels.",
        "mask_blur_y": "Gaussian sigma down, in pixels.",
        "inpainting_mask_invert": "1: repaint what is not masked.",
        "inpainting_fill": "Masked pixels start from: 0 fill, 1 original, 2 latent noise, 3 nothing.",
        "inpaint_full_res_padding": "Margin of that region, in pixels.",
        "inpainting_mask_weight": "How little an inpainting checkpoint sees of what is repainted.",
    },
    "Sampling": {
        "steps": "Of the whole schedule; the strength says how many are run.",
        "cfg_scale": "Guidance; 1 runs no negative branch, in half the time.",
        "sampler_name": f"One of {', '.join(SAMPLERS)}; may end in a schedule's name.",
        "scheduler": f"One of {', '.join(SCHEDULERS)}.",
        "eta": "Noise of the ancestral samplers and DDIM; by default the sampler's own.",
        "s_churn": "Noise that Euler and Heun add at each step.",
        "s_tmin": "Lowest sigma at which they do.",
        "s_tmax": "Highest sigma at which they do; by default no end.",
        "s_noise": "Scales a sampler's noise.",
        "tiling": "Let opposite edges fit each other: pictures that can be laid side by side.",
        "pad_cond_uncond": "Fill up the shorter of prompt and negative prompt with the empty prompt.",
        "pad_cond_uncond_v0": "As before A1111 1.6: repeat the negative prompt's last token, or cut it off.",
        "s_min_uncond": "Below this sigma, every second step runs no negative branch.",
        "image_cfg_scale": "Guidance by the picture, for instruct-pix2pix checkpoints.",
        "distilled_cfg_scale": "Guidance that Flux.1 dev is told; by default 3.5.",
        "clip_skip": "Layer of the text encoder that counts, from its last.",
    },
    "Noise and seeds": {
        "seed": "Of the first output; -1 draws one.",
        "seed_mode": "increment: output k takes seed + k; same: all take one.",
        "subseed": "Of the noise to mix in; -1 draws one.",
        "subseed_strength": "How much of it.",
        "seed_resize_from_w": "Width at which the seed's picture is known, 0 off.",
        "seed_resize_from_h": "Height at which it is known, 0 off.",
        "noise_source": "cpu, or nv for what an NVIDIA GPU's generator gives.",
        "initial_noise_multiplier": "Scales the first noise.",
        "extra_noise": "So much more of it is added.",
    },
    "Settings of A1111's": {
        name: str(Params.model_fields[name].description)
        for name in (
            "skip_early_cond",
            "rho",
            "sigma_min",
            "sigma_max",
            "beta_dist_alpha",
            "beta_dist_beta",
            "sd_noise_schedule",
            "eta_noise_seed_delta",
            "uni_pc_variant",
            "uni_pc_skip_type",
            "uni_pc_order",
            "emphasis",
            "comma_padding_backtrack",
            "sdxl_crop_top",
            "sdxl_crop_left",
        )
    },
    "Hires fix (with --txt2img and --enable-hr)": {
        "hr_scale": "How much larger each side becomes.",
        "hr_resize_x": "Or how wide it becomes; 0 as --hr-scale says.",
        "hr_resize_y": "Or how high; what does not fit either is cut off.",
        "hr_upscaler": f"What enlarges it: {', '.join([*LATENT_UPSCALERS, *UPSCALERS])}; by default Latent.",
        "hr_second_pass_steps": "Steps of the second pass; 0 as of the first.",
        "hr_sampler_name": "Its sampler; by default the first one's.",
        "hr_scheduler": "Its schedule; by default the first one's.",
        "hr_checkpoint_name": "Its checkpoint; only the job's own.",
        "hr_prompt": "Its prompt; by default the first one's.",
        "hr_negative_prompt": "Its negative prompt, likewise.",
    },
    # apart, for their two long names leave little room beside them
    "Switches": {
        "enable_hr": "txt2img renders twice: small, and from that enlarged.",
        "color_correction": "Match the result's colours to the input's.",
        "mask_round": "Make the mask black and white, or leave it soft.",
        "inpaint_full_res": "Only masked: work on the masked region at full size.",
        "overlay_inpaint": "Lay the original over a masked result.",
        "return_mask": "Store a masked result's mask beside it.",
        "return_mask_composite": "Store what the mask shows of it, too.",
        "fix_steps": "Run exactly that many, whatever the strength.",
        **{
            name: str(Params.model_fields[name].description)
            for name in (
                "odd_size",
                "txt2img",
                "s_min_uncond_all",
                "use_old_karras_scheduler_sigmas",
                "always_discard_next_to_last_sigma",
                "sgm_noise_multiplier",
                "no_dpmpp_sde_batch_determinism",
                "uni_pc_lower_order_final",
                "use_old_emphasis_implementation",
                "use_old_scheduling",
                "disable_extra_networks",
                "sdxl_clip_l_skip",
                "textual_inversion_add_hashes_to_infotext",
            )
        },
    },
}


def with_parameters(command: Callable[..., None]) -> Callable[..., None]:
    """`command`, whose argument `parameters` is what was given of --steps, --width and all the others."""
    mine = inspect.signature(command, eval_str=True).parameters.values()
    options = [
        _parameter(name, _option(name, text, panel))
        for panel, fields in HELP.items()
        for name, text in fields.items()
    ]
    blur = typer.Option(
        metavar=" ", help="Sets both of the above.", rich_help_panel=list(HELP)[1], show_default=False
    )
    options.append(_parameter("mask_blur", Annotated[float | None, blur]))

    def run(**values: Any) -> None:
        given = {option.name: values.pop(option.name) for option in options}
        command(**values, parameters={name: value for name, value in given.items() if value is not None})

    kept = [each for each in mine if each.name != "parameters"]
    signature = inspect.Signature([*kept, *options])
    run.__signature__ = signature  # type: ignore[attr-defined]  # what typer reads; a function may have one
    run.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def read_params_file(path: Path | None) -> dict[str, Any]:
    """The parameters in a JSON file, by their names; none without a file.

    Raises:
        Refused: it cannot be read, or is not one JSON object.
    """
    if path is None:
        return {}
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise Refused("params", str(path), f"a file that can be read ({error.strerror})") from None
    except ValueError as error:
        raise Refused("params", str(path), f"a JSON file ({error})") from None
    if not isinstance(values, dict):
        raise Refused("params", str(path), 'one JSON object, like {"steps": 30}')
    return values


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _option(name: str, text: str, panel: str) -> Any:
    schema = _schema()["properties"][name]
    schema = {**schema, **schema.get("anyOf", [{}])[0]}  # of one that may be left to the sampler
    option = typer.Option(
        metavar=" ", help=f"{text} {_range(schema)}".strip(), rich_help_panel=panel, show_default=False
    )
    return Annotated[_TYPES[schema["type"]] | None, option]


def _range(schema: dict[str, Any]) -> str:
    """ "(0..1, default 0.75)" """
    parts = []
    if "minimum" in schema and schema["maximum"] < SEED_MAX:
        parts.append(f"{schema['minimum']}..{schema['maximum']}")
    if "multipleOf" in schema:
        parts.append(f"multiple of {schema['multipleOf']}")
    if schema.get("default") not in (None, ""):
        parts.append(f"default {json.dumps(schema['default']).strip(QUOTE)}")
    return f"({', '.join(parts)})" if parts else ""


@cache
def _schema() -> dict[str, Any]:
    return Params.model_json_schema()


_TYPES: dict[str, Any] = {"integer": int, "number": float, "boolean": bool, "string": str}
QUOTE = '"'
