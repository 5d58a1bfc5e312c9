"""The meaning of an infotext in A1111's API: request fields, options, and the answer of png-info."""

from collections.abc import Callable, Mapping
from typing import Any

from img2img_gateway.sdapi.option_table import defaults
from img2img_shared.errors import Refused
from img2img_shared.infotext_parser import read_pairs

#: what a text means by a name that it leaves out
_LEFT_OUT: dict[str, Any] = {
    "Clip skip": "1",
    "Hires resize-1": 0,
    "Hires resize-2": 0,
    "Hires sampler": "Use same sampler",
    "Hires schedule type": "Use same scheduler",
    "Hires checkpoint": "Use same checkpoint",
    "Hires prompt": "",
    "Hires negative prompt": "",
    "Mask mode": "Inpaint masked",
    "Masked content": "original",
    "Inpaint area": "Whole picture",
    "Masked area padding": 32,
    "RNG": "GPU",
    "Schedule type": "Automatic",
    "Schedule max sigma": 0,
    "Schedule min sigma": 0,
    "Schedule rho": 0,
    "VAE Encoder": "Full",
    "VAE Decoder": "Full",
    "FP8 weight": "Disable",
    "Refiner switch by sampling steps": False,
}

#: names in the text, and the fields that they fill of either request
FIELDS: dict[str, tuple[str, type]] = {
    "Steps": ("steps", int),
    "Sampler": ("sampler_name", str),
    "Schedule type": ("scheduler", str),
    "Seed": ("seed", int),
    "Variation seed": ("subseed", int),
    "Variation seed strength": ("subseed_strength", float),
    # the wrong way round in A1111, and so here
    "Seed resize from-1": ("seed_resize_from_h", int),
    "Seed resize from-2": ("seed_resize_from_w", int),
    "Refiner": ("refiner_checkpoint", str),
    "Refiner switch at": ("refiner_switch_at", float),
}
#: and those that they fill of txt2img's alone
TXT2IMG_FIELDS: dict[str, tuple[str, type]] = {
    "Prompt": ("prompt", str),
    "Negative prompt": ("negative_prompt", str),
    "CFG scale": ("cfg_scale", float),
    "Size-1": ("width", int),
    "Size-2": ("height", int),
    "Batch size": ("batch_size", int),
    "Denoising strength": ("denoising_strength", float),
    "Hires upscale": ("hr_scale", float),
    "Hires upscaler": ("hr_upscaler", str),
    "Hires steps": ("hr_second_pass_steps", int),
    "Hires resize-1": ("hr_resize_x", int),
    "Hires resize-2": ("hr_resize_y", int),
    "Hires prompt": ("hr_prompt", str),
    "Hires negative prompt": ("hr_negative_prompt", str),
}


def _number(text: str) -> float:
    """A number; a whole one as int, as A1111 has arguments that are whole by default."""
    return float(text) if "." in text else int(text)


#: and those that tell soft inpainting's settings, by the labels of its script's arguments
SOFT_INPAINTING: dict[str, tuple[str, Callable[[str], Any]]] = {
    "Soft inpainting enabled": ("Soft inpainting", bool),
    "Soft inpainting schedule bias": ("Schedule bias", _number),
    "Soft inpainting preservation strength": ("Preservation strength", float),
    "Soft inpainting transition contrast boost": ("Transition contrast boost", _number),
    "Soft inpainting mask influence": ("Mask influence", _number),
    "Soft inpainting difference threshold": ("Difference threshold", float),
    "Soft inpainting difference contrast": ("Difference contrast", _number),
}

#: and the options that they set; A1111 writes the last two in another spelling, and so never reads them
OPTIONS = {
    "Clip skip": "CLIP_stop_at_last_layers",
    "Emphasis": "emphasis",
    "RNG": "randn_source",
    "Tiling": "tiling",
    "Face restoration": "face_restoration",
    "VAE": "sd_vae",
    "VAE Encoder": "sd_vae_encode_method",
    "VAE Decoder": "sd_vae_decode_method",
    "Conditional mask weight": "inpainting_mask_weight",
    "Noise multiplier": "initial_noise_multiplier",
    "Extra noise": "img2img_extra_noise",
    "NGMS": "s_min_uncond",
    "NGMS all steps": "s_min_uncond_all",
    "Token merging ratio": "token_merging_ratio",
    "Token merging ratio hr": "token_merging_ratio_hr",
    "Pad conds": "pad_cond_uncond",
    "Pad conds v0": "pad_cond_uncond_v0",
    "Old prompt editing timelines": "use_old_scheduling",
    "Downcast alphas_cumprod": "use_downcasted_alpha_bar",
    "Eta": "eta_ancestral",
    "Eta DDIM": "eta_ddim",
    "Sigma churn": "s_churn",
    "Sigma tmin": "s_tmin",
    "Sigma tmax": "s_tmax",
    "Sigma noise": "s_noise",
    "Schedule min sigma": "sigma_min",
    "Schedule max sigma": "sigma_max",
    "Schedule rho": "rho",
    "ENSD": "eta_noise_seed_delta",
    "Discard penultimate sigma": "always_discard_next_to_last_sigma",
    "SGM noise multiplier": "sgm_noise_multiplier",
    "UniPC variant": "uni_pc_variant",
    "UniPC skip type": "uni_pc_skip_type",
    "UniPC order": "uni_pc_order",
    "UniPC lower order final": "uni_pc_lower_order_final",
    "Noise Schedule": "sd_noise_schedule",
    "Skip Early CFG": "skip_early_cond",
    "Beta scheduler alpha": "beta_dist_alpha",
    "Beta scheduler beta": "beta_dist_beta",
}


def read_parameters(text: str) -> dict[str, Any]:
    """The answer of ``png-info`` to a text: its pairs, and what A1111 infers from missing ones."""
    return _LEFT_OUT | read_pairs(text)


def request_fields(text: str, *, txt2img: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """(fields of a request, options) that an infotext sets.

    As in A1111, it sets few fields of an img2img request, and not its prompts, size, guidance, strength and
    mask. The checkpoint is not among the options. If it names no source of noise, the settings decide, as on
    a machine without a GPU.

    Raises:
        Refused: names an option in it.
    """
    pairs = read_pairs(text)
    fields: dict[str, Any] = {"sampler_name": "DPM++ 2M"}  # which A1111 takes where it finds no sampler
    fields |= typed(pairs, FIELDS | (TXT2IMG_FIELDS if txt2img else {}))
    hires = ("Hires upscale", "Hires upscaler", "Hires resize-1")
    if txt2img and "Denoising strength" in pairs and any(name in pairs for name in hires):
        fields["enable_hr"] = True
    options = options_of(pairs)
    return fields, {name: value for name, value in options.items() if value != defaults()[name]}


def soft_inpainting_arguments(text: str) -> dict[str, Any]:
    """An infotext's values for soft inpainting, by the labels of its script's arguments."""
    return typed(read_pairs(text), SOFT_INPAINTING)


def options_of(pairs: Mapping[str, str]) -> dict[str, Any]:
    """The options that an infotext's pairs set.

    Raises:
        Refused: names one of them.
    """
    return {OPTIONS[name]: _option(name, value) for name, value in pairs.items() if name in OPTIONS}


def typed(pairs: Mapping[str, str], known: Mapping[str, tuple[str, Callable[[str], Any]]]) -> dict[str, Any]:
    """Fields by their names; a text that is not a number is kept, for the request to refuse."""
    found: dict[str, Any] = {}
    for name, (target, kind) in known.items():
        if name in pairs:
            try:
                found[target] = kind(pairs[name])
            except ValueError:
                found[target] = pairs[name]
    return found


def _option(label: str, text: str) -> Any:
    """An option's value, with the type of its default."""
    default = defaults()[OPTIONS[label]]
    if isinstance(default, bool):
        return text != "False"
    if not isinstance(default, int | float):
        return text
    try:
        return float(text) if isinstance(default, float) else int(float(text))
    except (ValueError, OverflowError):
        raise Refused(f"infotext.{label}", text, "give a number") from None
