"""A node that sends pictures to a farm and waits for what it makes of them."""

import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from img2img_producer import Farm, Picture
from img2img_shared.samplers import SAMPLERS, SCHEDULERS

_SEEDS = 2**32


class Img2ImgFarm:
    """Repaints a batch of pictures on a farm: each is an image of one job, and the batch comes back in order.

    The farm is reached at `url`, with the key that ComfyUI's environment has as IMG2IMG_KEY: a workflow is a
    file that people give away, and a key does not belong into it. With no URL it is IMG2IMG_FARM_URL's.
    """

    CATEGORY = "img2img-farm"
    FUNCTION = "repaint"
    RETURN_TYPES = ("IMAGE",)
    DESCRIPTION = "Sends pictures (and a mask) to an img2img farm, and waits for the results."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:  # noqa: N802  # ComfyUI's name
        """What it takes, as ComfyUI asks for it."""
        text = ("STRING", {"multiline": True, "default": ""})
        word = ("STRING", {"default": ""})
        return {
            "required": {
                "image": ("IMAGE",),
                "prompt": text,
                "negative_prompt": text,
                "denoising_strength": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01}),
                "steps": ("INT", {"default": 20, "min": 1, "max": 150}),
                "cfg_scale": ("FLOAT", {"default": 7.0, "min": 1.0, "max": 30.0, "step": 0.1}),
                "sampler_name": (list(SAMPLERS), {"default": "DPM++ 2M"}),
                "scheduler": (list(SCHEDULERS), {"default": "Automatic"}),
                "seed": ("INT", {"default": 0, "min": 0, "max": _SEEDS - 1}),
                "model": (
                    *word[:1],
                    {**word[1], "tooltip": "As the farm's workers call it; empty: its own."},
                ),
                "url": (*word[:1], {**word[1], "tooltip": "Of the farm's gateway; empty: IMG2IMG_FARM_URL."}),
            },
            "optional": {
                "mask": ("MASK",),
                "parameters": (
                    "STRING",
                    {
                        "multiline": True,
                        "default": "",
                        "tooltip": "Any other parameters, one a line: name = value.",
                    },
                ),
            },
        }

    def repaint(
        self,
        image: Tensor,
        *,
        model: str,
        url: str,
        mask: Tensor | None = None,
        parameters: str = "",
        **named: Any,
    ) -> tuple[Tensor]:
        """The pictures, repainted.

        Args:
            image: [B, H, W, 3] in 0..1.
            mask: [H, W] or [B, H, W] in 0..1, 1 = repaint.
            parameters: lines of ``name = value``.
            named: parameters of the farm.

        Raises:
            FarmError: the farm refuses it, does not answer, or an image failed: ComfyUI shows the reason.
        """
        pictures = [
            Picture(image=_encoded(each), mask=None if mask is None else _encoded(_of(mask, index)))
            for index, each in enumerate(image)
        ]
        height, width = image.shape[1:3]
        # pictures come in any size: what is no multiple of 8 is cut off, as ComfyUI's own VAE does
        params = {"width": width, "height": height, "odd_size": True, **named, **_read(parameters)}
        painted: dict[int, Tensor] = {}
        with Farm(url or None, key=os.environ.get("IMG2IMG_KEY")) as farm:
            job = farm.submit(pictures, model=model or None, params=params, name="ComfyUI")
            tick = _progress(len(pictures))
            try:
                for result in farm.results(job, progress=lambda status: tick(status.done + status.failed)):
                    painted[result.index] = _decoded(result.read())
            except BaseException:  # ComfyUI's own interrupt, too
                farm.cancel(job)
                raise
        return (torch.stack([painted[index] for index in sorted(painted)]),)


def _of(mask: Tensor, index: int) -> Tensor:
    return mask if mask.ndim == 2 else mask[min(index, len(mask) - 1)]


def _encoded(pixels: Tensor) -> bytes:
    """A picture [H, W, 3], or a mask [H, W], as PNG."""
    data = io.BytesIO()
    Image.fromarray((pixels.cpu().numpy().clip(0, 1) * 255).round().astype(np.uint8)).save(data, "PNG")
    return data.getvalue()


def _decoded(data: bytes) -> Tensor:
    with Image.open(io.BytesIO(data)) as picture:
        return torch.from_numpy(np.asarray(picture.convert("RGB")).astype(np.float32) / 255)


def _read(lines: str) -> dict[str, str]:
    """The parameters of some lines; the farm says what is wrong with them."""
    pairs = (line.partition("=") for line in lines.splitlines() if line.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _progress(total: int) -> Callable[[int], None]:
    """Tells ComfyUI how many are done, and hears its "cancel"; outside of ComfyUI nothing."""
    try:
        from comfy.model_management import throw_exception_if_processing_interrupted
        from comfy.utils import ProgressBar
    except ModuleNotFoundError:
        return lambda _: None
    bar = ProgressBar(total)

    def tick(done: int) -> None:
        throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return tick


NODE_CLASS_MAPPINGS: dict[str, type] = {"Img2ImgFarm": Img2ImgFarm}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {"Img2ImgFarm": "img2img farm"}
