"""A1111's infotext, read: the text of a picture back into parameters."""

import json
import re
from typing import Any

_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
#: a last line with fewer pairs is part of the prompt
_FEWEST = 3

#: names in the text, and the fields of a request that they fill
_FIELDS: dict[str, tuple[str, type]] = {
    "Prompt": ("prompt", str),
    "Negative prompt": ("negative_prompt", str),
    "Steps": ("steps", int),
    "Sampler": ("sampler_name", str),
    "Schedule type": ("scheduler", str),
    "CFG scale": ("cfg_scale", float),
    "Image CFG scale": ("image_cfg_scale", float),
    "Distilled CFG Scale": ("distilled_cfg_scale", float),
    "Seed": ("seed", int),
    "Size-1": ("width", int),
    "Size-2": ("height", int),
    "Denoising strength": ("denoising_strength", float),
    "Variation seed": ("subseed", int),
    "Variation seed strength": ("subseed_strength", float),
    "Seed resize from-1": ("seed_resize_from_w", int),
    "Seed resize from-2": ("seed_resize_from_h", int),
    "Mask blur": ("mask_blur", float),
    "Masked area padding": ("inpaint_full_res_padding", int),
    "Eta": ("eta", float),
    "Eta DDIM": ("eta", float),
    "Sigma churn": ("s_churn", float),
    "Sigma tmin": ("s_tmin", float),
    "Sigma tmax": ("s_tmax", float),
    "Sigma noise": ("s_noise", float),
    "NGMS": ("s_min_uncond", float),
}
#: names in the text, and the options that they override
_OPTIONS: dict[str, tuple[str, type]] = {
    "Model": ("sd_model_checkpoint", str),
    "Clip skip": ("CLIP_stop_at_last_layers", int),
    "RNG": ("randn_source", str),
    "Noise multiplier": ("initial_noise_multiplier", float),
    "Extra noise": ("img2img_extra_noise", float),
}


def read_pairs(text: str) -> dict[str, str]:
    """An infotext's names and values, the prompts among them; "Size: 512x768" as Size-1 and Size-2.

    >>> read_pairs("a cat\\nNegative prompt: a dog\\nSteps: 20, Sampler: Euler, Size: 512x768")["Size-2"]
    '768'
    """
    *lines, last = text.strip().split("\n")
    pairs = _PAIR.findall(last)
    if len(pairs) < _FEWEST:
        lines, pairs = [*lines, last], []
    prompt, mark, negative = "\n".join(lines).partition("Negative prompt:")
    found = {"Prompt": prompt.strip(), "Negative prompt": negative.strip() if mark else ""}
    for name, value in pairs:
        plain = _unquoted(value.strip())
        if size := re.fullmatch(r"(\d+)x(\d+)", plain):
            found |= {f"{name}-1": size[1], f"{name}-2": size[2]}
        else:
            found[name] = plain
    return found


def request_fields(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(fields of a request, options) that an infotext sets, without what is no number where one belongs."""
    pairs = read_pairs(text)
    return _typed(pairs, _FIELDS), _typed(pairs, _OPTIONS)


def _typed(pairs: dict[str, str], known: dict[str, tuple[str, type]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (target, kind) in known.items():
        if pairs.get(name):
            try:
                found[target] = kind(pairs[name])
            except ValueError:
                continue
    return found


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value
