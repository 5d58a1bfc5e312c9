"""A1111's account of a render (``info``): every name and type of its `Processed.js`."""

import re
import time
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

from img2img_gateway.sdapi.request import Img2ImgRequest, RenderRequest
from img2img_gateway.sdapi.request_reading import Reading
from img2img_shared.checkpoints import checkpoint_name
from img2img_shared.infotext_parser import read_pairs
from img2img_shared.job import Job
from img2img_shared.params import Params
from img2img_shared.prompt_tags import strip_comments
from img2img_shared.samplers import SAMPLERS
from img2img_shared.seeds import seeds_of

#: names in a picture's text that A1111 does not count among the extra parameters
_PLAIN = frozenset(
    {
        "Prompt",
        "Negative prompt",
        "Steps",
        "Sampler",
        "CFG scale",
        "Image CFG scale",
        "Distilled CFG Scale",
        "Seed",
        "Face restoration",
        "Size-1",
        "Size-2",
        "Model hash",
        "Model",
        "FP8 weight",
        "Cache FP16 weight for LoRA",
        "VAE hash",
        "VAE",
        "Variation seed",
        "Variation seed strength",
        "Seed resize from-1",
        "Seed resize from-2",
        "Conditional mask weight",
        "Clip skip",
        "ENSD",
        "Token merging ratio",
        "Token merging ratio hr",
        "RNG",
        "Tiling",
        "Version",
    }
)


def processed(
    reading: Reading,
    jobs: Sequence[Sequence[Job]],
    texts: Sequence[str],
    begun: float,
    size: tuple[int, int],
) -> dict[str, Any]:
    """A1111's account of a render, with `warnings` if something in the request was ignored.

    Args:
        jobs: for each render, those of its iterations.
        texts: the pictures' infotexts.
        begun: when it began, in seconds since 1970.
        size: that of the largest picture.
    """
    body, params = reading.body, reading.params
    pairs = read_pairs(texts[0]) if texts else {}
    account = {
        **_images(reading, jobs),
        "subseed_strength": body.subseed_strength,
        "width": params.width,
        "height": params.height,
        "sampler_name": params.sampler_name,
        "cfg_scale": body.cfg_scale,
        "steps": body.steps,
        "batch_size": _batch_size(reading, jobs[0][0]),
        "restore_faces": params.restore_faces,
        "face_restoration_model": params.face_restoration_model if params.restore_faces else None,
        "sd_model_name": pairs.get("Model", checkpoint_name(reading.model)),
        "sd_model_hash": pairs.get("Model hash", reading.model_hash),
        "sd_vae_name": pairs.get("VAE"),
        "sd_vae_hash": pairs.get("VAE hash"),
        "seed_resize_from_w": body.seed_resize_from_w,
        "seed_resize_from_h": body.seed_resize_from_h,
        "denoising_strength": body.denoising_strength,
        "extra_generation_params": _extra(body, params, pairs),
        "infotexts": list(texts),
        "styles": body.styles or [],
        "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.localtime(begun)),
        "clip_skip": params.clip_skip,
        "is_using_inpainting_conditioning": "Conditional mask weight" in pairs,
        "version": pairs.get("Version", f"img2img-farm {version('img2img-farm')}" if texts else ""),
    }
    of_script = reading.run.account_changes(account, size) if reading.run else {}
    return {**account, **of_script} | ({"warnings": reading.warnings} if reading.warnings else {})


def _batch_size(reading: Reading, job: Job) -> int:
    """How many pictures an iteration makes: of several init pictures, one of each."""
    is_one_of_each = reading.run is None and job.n_inputs > 1
    return job.n_inputs if is_one_of_each else reading.body.batch_size


def _images(reading: Reading, jobs: Sequence[Sequence[Job]]) -> dict[str, Any]:
    """The prompts and seeds of each image."""
    prompts: list[str] = []
    negative_prompts: list[str] = []
    seeds: list[tuple[int, int]] = []
    for render, (first, *_) in zip(reading.renders, jobs, strict=True):
        n = render.body.n_iter * render.body.batch_size  # though fewer init pictures give fewer
        params = first.params
        uncommented = partial(strip_comments, enabled=params.enable_prompt_comments)
        prompts += [uncommented(params.prompt)] * n
        negative_prompts += [uncommented(params.negative_prompt)] * n
        seeds += [seeds_of(params.seed, params.subseed, params.subseed_strength, i) for i in range(n)]
    return {
        "prompt": prompts[0],
        "all_prompts": prompts,
        "negative_prompt": negative_prompts[0],
        "all_negative_prompts": negative_prompts,
        "seed": seeds[0][0],
        "all_seeds": [seed for seed, _ in seeds],
        "subseed": seeds[0][1],
        "all_subseeds": [subseed for _, subseed in seeds],
    }


def _extra(body: RenderRequest, params: Params, pairs: dict[str, str]) -> dict[str, Any]:
    """A text's other values by their names, with numbers as numbers."""
    found = {name: _typed(value) for name, value in pairs.items() if name not in _PLAIN}
    if "Hires resize-1" in found:
        found["Hires resize"] = f"{found.pop('Hires resize-1')}x{found.pop('Hires resize-2')}"
    if found.get("Schedule type") == "Automatic" or SAMPLERS[params.sampler_name].timesteps:
        found.pop("Schedule type", None)  # which only a schedule that was chosen by name is
    if params.enable_hr:  # whose prompts the text alone tells
        found = {"Hires schedule type": None, **found, "Hires prompt": None, "Hires negative prompt": None}
    if isinstance(body, Img2ImgRequest) and body.mask and params.mask_blur_x != params.mask_blur_y:
        found["Mask blur"] = None
    return found


def _typed(text: str) -> Any:
    if text in ("True", "False"):
        return text == "True"
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?\d+\.\d+(e-?\d+)?", text) else text
