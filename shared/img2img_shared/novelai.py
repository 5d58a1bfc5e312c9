"""Reads what NovelAI wrote into a picture as A1111's infotext."""

import json
from collections.abc import Mapping

from img2img_shared.samplers import SAMPLERS

#: for a sampler that A1111 does not have
_OTHER = "Euler a"


def novelai_infotext(texts: Mapping[str, str], width: int, height: int) -> str | None:
    """The infotext that A1111 makes of it; None: NovelAI did not make the picture, or its texts are broken.

    Emphasis stays as NovelAI has it, in braces. Strength and noise of its img2img are left out.

    Args:
        texts: of the picture's file, by their keywords.
        width: of the picture, in pixels.
        height: likewise.
    """
    if texts.get("Software") != "NovelAI":
        return None
    try:
        told = json.loads(texts["Comment"])
        values = {
            "Steps": told["steps"],
            "Sampler": _sampler(told["sampler"]),
            "CFG scale": told["scale"],
            "Seed": told["seed"],
            "Size": f"{width}x{height}",
            "Clip skip": 2,
            "ENSD": 31337,
        }
        negative_prompt = told["uc"]
        prompt = texts["Description"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    pairs = ", ".join(f"{name}: {value}" for name, value in values.items())
    text = f"{prompt}\nNegative prompt: {negative_prompt}\n{pairs}"
    return text.encode("utf-8", "replace").decode()  # JSON may have half a character


def _sampler(wanted: object) -> str:
    """A1111's name of a sampler."""
    for name, sampler in SAMPLERS.items():
        if wanted in (name.lower(), *sampler.aliases):
            return name
    return _OTHER
