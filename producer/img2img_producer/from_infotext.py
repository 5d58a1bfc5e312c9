"""Takes parameters from each picture's infotext, as A1111's batch tab does ("PNG info")."""

import re
from collections.abc import Sequence
from typing import Any

from img2img_shared.errors import Refused
from img2img_shared.infotext_parser import read_pairs
from img2img_shared.params import Params
from img2img_shared.picture_texts import read_texts

#: parameters by the names that infotexts tell them under; the first six are those of A1111's batch tab
LABELS = {
    "prompt": "Prompt",
    "negative_prompt": "Negative prompt",
    "seed": "Seed",
    "cfg_scale": "CFG scale",
    "sampler_name": "Sampler",
    "steps": "Steps",
    "scheduler": "Schedule type",
    "denoising_strength": "Denoising strength",
    "width": "Size-1",
    "height": "Size-2",
    "subseed": "Variation seed",
    "subseed_strength": "Variation seed strength",
    "clip_skip": "Clip skip",
}
_APPENDED = ("prompt", "negative_prompt")


def infotext_names(text: str) -> tuple[str, ...]:
    """The parameters that "seed,prompt" names, or "Seed, Negative prompt", as A1111 calls them.

    Raises:
        Refused: one of them is never in an infotext.
    """
    by_label = {_normalise(label): name for name, label in LABELS.items()}
    found = []
    for word in text.split(","):
        name = by_label.get(_normalise(word), _normalise(word))
        if name in ("model", "model_hash"):
            raise Refused("from_infotext", word.strip(), "give the model once for all inputs, by --model")
        if name not in LABELS:
            raise Refused("from_infotext", word.strip(), f"name some of {', '.join(LABELS)}")
        found.append(name)
    return tuple(dict.fromkeys(found))


def infotext_params(data: bytes, names: Sequence[str], params: Params) -> dict[str, Any] | None:
    """These parameters from a picture's infotext, or None if it has no infotext.

    As in A1111, its prompts are appended to the job's, and values that it lacks are the job's.

    Args:
        data: the encoded picture.
        params: the job's.
    """
    text = read_texts(data).get("parameters")
    if not text:
        return None
    pairs = read_pairs(text)
    found: dict[str, Any] = {name: pairs[LABELS[name]] for name in names if LABELS[name] in pairs}
    for name in _APPENDED:
        if name in found:
            found[name] = f"{getattr(params, name)} {found[name]}".strip()
    return found


def _normalise(word: str) -> str:
    return re.sub(r"[\s-]+", "_", word.strip().lower())
