"""The meaning of an infotext in A1111's API: request fields, options, and the answer of png-info."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from img2img_gateway.sdapi.option_table import defaults
from img2img_gateway.sdapi.styles import Style, extract_styles
from img2img_shared.errors import Refused
from img2img_shared.infotext_parser import read_pairs
from img2img_shared.infotext_versions import version_of

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
    "Hires sampler": ("hr_sampler_name", str),
    "Hires schedule type": ("hr_scheduler", str),
    "Hires checkpoint": ("hr_checkpoint_name", str),
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
    "Hires refiner": "hires_fix_refiner_pass",
    "Refiner switch by sampling steps": "refiner_switch_by_sample_steps",
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


#: with which version styles came to be told apart in the prompts of a hires fix
_HIRES_STYLES = (1, 8, 0, 139)


def read_parameters(text: str, styles: Mapping[str, Style], mode: str) -> dict[str, Any]:
    """What A1111 reads in a text: its pairs, and what it infers from them and from missing ones.

    Args:
        styles: those that are told apart in its prompts.
        mode: the option `infotext_styles`.
    """
    pairs = read_pairs(text)
    pairs |= _of_styles(pairs, styles, mode)
    if pairs.get("FP8 weight", "Disable") != "Disable":
        pairs.setdefault("Cache FP16 weight for LoRA", False)
    prompts = f"{pairs['Prompt']} {pairs['Negative prompt']}"
    if re.search(r"[(\[]", re.sub(r"\\[()\[\]\\]", "", prompts)):
        pairs.setdefault("Emphasis", "Original")
    return _LEFT_OUT | pairs


def request_fields(
    text: str, options: Mapping[str, Any], *, txt2img: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(fields of a request, options) that an infotext sets.

    As in A1111, it sets few fields of an img2img request, and not its prompts, size, guidance, strength and
    mask; and of the options those that the caller has otherwise. The checkpoint is not among the options. If
    it names no source of noise, the settings decide, as on a machine without a GPU. Styles stay in its
    prompts, where A1111 removes and loses them.

    Args:
        options: the caller's, all of them.

    Raises:
        Refused: names an option in it.
    """
    told, pairs = read_pairs(text), read_parameters(text, {}, "Ignore")
    fields: dict[str, Any] = {"sampler_name": "DPM++ 2M"}  # which A1111 takes where it finds no sampler
    fields |= typed(told, FIELDS | (TXT2IMG_FIELDS if txt2img else {}))
    hires = ("Hires upscale", "Hires upscaler", "Hires resize-1")
    if txt2img and "Denoising strength" in told and any(name in told for name in hires):
        fields["enable_hr"] = True
    if "RNG" not in told:
        del pairs["RNG"]
    chosen = options_of(pairs)
    return fields, {name: value for name, value in chosen.items() if value != options[name]}


def _of_styles(pairs: Mapping[str, Any], styles: Mapping[str, Style], mode: str) -> dict[str, Any]:
    """The entries that change where prompts have texts of styles, as the option `infotext_styles` asks."""
    prompts = pairs["Prompt"], pairs["Negative prompt"]
    if mode == "Ignore" or not styles:
        return {}
    names, *bare = extract_styles(*prompts, styles)
    changes: dict[str, Any] = {"Prompt": bare[0], "Negative prompt": bare[1]}
    version = version_of(pairs)
    has_hires = "Hires prompt" in pairs or "Hires negative prompt" in pairs
    if has_hires and (version is None or version > _HIRES_STYLES):
        hires = pairs.get("Hires prompt", prompts[0]), pairs.get("Hires negative prompt", prompts[1])
        own_names, *own = extract_styles(*hires, styles)
        if own_names != names:
            return {}
        labels = ("Hires prompt", "Hires negative prompt")
        changes |= {
            label: "" if text == first else text for label, text, first in zip(labels, own, bare, strict=True)
        }
    if mode == "Apply" or (mode == "Apply if any" and names):
        changes["Styles array"] = names
    return changes


def soft_inpainting_arguments(text: str) -> dict[str, Any]:
    """An infotext's values for soft inpainting, by the labels of its script's arguments."""
    return typed(read_pairs(text), SOFT_INPAINTING)


def options_of(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """The options that an infotext's pairs set.

    Raises:
        Refused: names one of them.
    """
    return {OPTIONS[name]: _option(name, value) for name, value in pairs.items() if name in OPTIONS}


def typed(pairs: Mapping[str, Any], known: Mapping[str, tuple[str, Callable[[str], Any]]]) -> dict[str, Any]:
    """Fields by their names; a text that is not a number is kept, for the request to refuse."""
    found: dict[str, Any] = {}
    for name, (target, kind) in known.items():
        if name in pairs:
            try:
                found[target] = kind(pairs[name])
            except ValueError:
                found[target] = pairs[name]
    return found


def _option(label: str, text: Any) -> Any:
    """An option's value, with the type of its default."""
    default = defaults()[OPTIONS[label]]
    if isinstance(default, bool):
        return text not in ("False", False)
    if not isinstance(default, int | float):
        return text
    try:
        return float(text) if isinstance(default, float) else int(float(text))
    except (ValueError, OverflowError):
        raise Refused(f"infotext.{label}", text, "give a number") from None
