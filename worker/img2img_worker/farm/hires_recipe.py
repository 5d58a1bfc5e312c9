"""A1111's hires fix: a picture from noise, enlarged, and rendered once more from there."""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from img2img_shared.hires import DEFAULT_UPSCALER, LATENT_UPSCALERS, HiresSize, hires_size
from img2img_shared.param_fields import HIRES_FIELDS
from img2img_shared.params import Params
from img2img_shared.prompt_tags import strip_comments
from img2img_shared.samplers import SAMPLERS
from img2img_worker.engine.render import Control, Render
from img2img_worker.farm.render_steps import RenderSteps
from img2img_worker.pictures.resize import scale
from img2img_worker.pictures.upscale import RunNetwork, no_networks

Latent = NDArray[np.float32]
#: by their names in `hires_fix_refiner_pass`
PASSES = ("first pass", "second pass")


def hires_fix(
    render: Render,
    factor: int,
    controls: tuple[Control, ...] = (),
    run: RunNetwork = no_networks,
    checkpoint: str | None = None,
    refined: Collection[str] = PASSES,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> RenderSteps[tuple[Render, Render, NDArray[np.uint8]]]:
    """The renders of both passes of `render`, and the picture.

    Source: A1111's ``StableDiffusionProcessingTxt2Img.sample_hr_pass``.

    Args:
        factor: pixels per latent cell, each way.
        controls: those of the second pass.
        run: runs an upscaler's network.
        checkpoint: for the second pass, if it is another than the first pass'.
        refined: the passes whose checkpoint is not the refiner itself.
        is_interrupted: whether to stop; after the first pass, the result is then that pass' picture.
    """
    params = render.params
    first = replace(render, params=_in_pass("first pass", params, refined))
    size, upscaler = hires_size(params), params.hr_upscaler or DEFAULT_UPSCALER
    reads_early = params.hr_checkpoint_name is None  # before there is another network
    second = Render(
        params=_in_pass("second pass", second_params(params, size), refined),
        pinned=render.pinned,
        checkpoint=checkpoint,
        prompt=params.hr_prompt or first.prompt,
        negative_prompt=params.hr_negative_prompt or first.negative_prompt,
        seed=first.seed,
        subseed=first.subseed,
        latent_size=(size.height // factor, size.width // factor),
        earlier_calls=params.steps * (2 if SAMPLERS[params.sampler_name].second_order else 1),
        read_with=first.prompt if params.hires_fix_use_firstpass_conds and reads_early else None,
    )
    crop = partial(crop_cells, columns=size.surplus_width // factor, rows=size.surplus_height // factor)
    #: what an inpainting checkpoint sees of it, if that is not the latent
    seen: NDArray[Any] | None = None
    if upscaler in LATENT_UPSCALERS:
        (latent,) = yield [replace(first, wants_latent=True)]
        if is_interrupted():
            (pixels,) = yield [replace(first, params=_without_calls(first.params), latent=latent)]
            return first, second, pixels
        latent = crop(resize_latent(latent, second.latent_size, *LATENT_UPSCALERS[upscaler]))
    else:
        (pixels,) = yield [first]
        if is_interrupted():
            return first, second, pixels
        picture = scale(Image.fromarray(pixels), (size.width, size.height), upscaler, run)
        enlarged = np.array(picture)
        unchanged = replace(second, params=_without_calls(second.params), pixels=enlarged)
        (latent,) = yield [replace(unchanged, wants_latent=True)]
        latent = crop(latent)
        # A1111 gives the VAE 0..1 here, where it expects -1..1
        shown = np.asarray(np.moveaxis(enlarged, 2, 0) / 2 + 127.5, np.float32)
        seen = np.moveaxis(crop(shown, side=factor), 0, 2)
    second = replace(
        second,
        latent=latent,
        latent_size=latent.shape[1:],
        cond_pixels=seen,
        shows_latent=params.inpainting_mask_weight < 1,
        controls=controls,
    )
    (pixels,) = yield [second]
    return first, second, pixels


def _without_calls(params: Params) -> Params:
    """`params` of a render that only encodes, or only decodes."""
    changes = {"txt2img": False, "enable_hr": False, "steps": 0, "refiner_checkpoint": None}
    return params.model_copy(update=changes)


def _in_pass(name: str, params: Params, refined: Collection[str]) -> Params:
    """`params` for one pass, without the refiner if it has no part in it."""
    has_part = params.hires_fix_refiner_pass in (name, "both passes") and name in refined
    return params if has_part else params.model_copy(update={"refiner_checkpoint": None})


def final_size(params: Params, factor: int) -> tuple[int, int]:
    """(width, height) of the second pass' picture."""
    size = hires_size(params)

    def kept(side: int, surplus: int) -> int:
        return (side // factor - max(surplus // factor, 0)) * factor

    return kept(size.width, size.surplus_width), kept(size.height, size.surplus_height)


def is_latent(params: Params) -> bool:
    """Whether it is the latent that is enlarged, and not the picture."""
    return (params.hr_upscaler or DEFAULT_UPSCALER) in LATENT_UPSCALERS


def infotext_pairs(first: Render, second: Render, checkpoint: str) -> dict[str, object]:
    """The infotext's entries on the second pass, by A1111's names and in its order.

    Args:
        checkpoint: the one that rendered it, as infotexts name it.
    """
    params = first.params
    sampler, prompt, negative = second.params.sampler_name, second.prompt, second.negative_prompt
    before, now = (_schedule_name(each.params) for each in (first, second))
    method = params.sd_vae_encode_method
    uncommented = partial(strip_comments, enabled=params.enable_prompt_comments)
    is_resized = bool(params.hr_resize_x or params.hr_resize_y)
    return {
        "Hires checkpoint": checkpoint if params.hr_checkpoint_name else None,
        "Hires sampler": sampler if sampler != params.sampler_name else None,
        "Hires prompt": uncommented(prompt) if prompt != first.prompt else None,
        "Hires negative prompt": uncommented(negative) if negative != first.negative_prompt else None,
        "Hires schedule type": now if now != before else None,
        "Hires upscale": None if is_resized else params.hr_scale,
        "Hires resize": f"{params.hr_resize_x}x{params.hr_resize_y}" if is_resized else None,
        "Hires steps": params.hr_second_pass_steps or None,
        "Hires upscaler": params.hr_upscaler,
        "VAE Encoder": None if is_latent(params) or method == "Full" else method,
    }


def _schedule_name(params: Params) -> str | None:
    sampler = SAMPLERS[params.sampler_name]
    return None if sampler.timesteps else sampler.schedule(params.scheduler)


def second_params(params: Params, size: HiresSize) -> Params:
    """The second pass' parameters: img2img of the enlarged picture, with exactly as many steps as wanted."""
    fields = Params.model_fields
    changes = {
        **{name: fields[name].default for name in ("enable_hr", "txt2img", *HIRES_FIELDS)},
        "width": size.width,
        "height": size.height,
        "steps": params.hr_second_pass_steps or params.steps,
        "sampler_name": params.hr_sampler_name or params.sampler_name,
        "scheduler": params.hr_scheduler or params.scheduler,
        "token_merging_ratio": params.token_merging_ratio_hr or params.token_merging_ratio,
        "fix_steps": True,
        "initial_noise_multiplier": 1.0,
    }
    return params.model_copy(update=changes)


def resize_latent(latent: Latent, size: tuple[int, int], mode: str, antialias: bool) -> Latent:
    """Resize a latent [C, h, w] to (h, w), by one of torch's modes of interpolation."""
    whole = F.interpolate(torch.from_numpy(latent)[None], size=size, mode=mode, antialias=antialias)
    return np.asarray(whole[0].numpy(), dtype=np.float32)


def crop_cells(cells: Latent, columns: int, rows: int, side: int = 1) -> Latent:
    """Crop so many columns and rows of cells off [C, h, w], half of them at each end; negative: none.

    Args:
        side: of a cell, each way.
    """
    height, width = cells.shape[1:]
    top, left = max(rows, 0) // 2 * side, max(columns, 0) // 2 * side
    bottom = height - (max(rows, 0) + 1) // 2 * side
    right = width - (max(columns, 0) + 1) // 2 * side
    return np.ascontiguousarray(cells[:, top:bottom, left:right])
