"""The recipe of A1111's soft inpainting, whose result shows only where the picture has changed."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from img2img_worker.engine.render import Render
from img2img_worker.farm.render_steps import RenderSteps
from img2img_worker.pictures.soft_opening import change, soft_opening
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.live import plan_of
from img2img_worker.sampling.plan_key import PlanKey
from img2img_worker.sampling.refiner import first_refined


def soft_inpaint(
    render: Render, mask: NDArray[np.float32], levels: NoiseLevels
) -> RenderSteps[tuple[NDArray[np.uint8], Image.Image]]:
    """The picture, and the mask of where it shows (L, of its size), from the latents before and after.

    Args:
        mask: the mask of `render`, [h, w].
        levels: noise levels of its checkpoint for its latent's size.
    """
    (after,) = yield [replace(render, wants_latent=True)]
    # of these two, neither has a model call
    still = render.params.model_copy(update={"steps": 0, "refiner_checkpoint": None})
    begin = replace(render, params=still, wants_latent=True)
    decode = replace(
        render,
        params=still,
        checkpoint=_last_checkpoint(render, levels),
        pixels=None,
        mask=None,
        cond_mask=None,
        latent=after,
    )
    before, pixels = yield [begin, decode]
    return pixels, soft_opening(change(before, after), mask, render.params)


def _last_checkpoint(render: Render, levels: NoiseLevels) -> str | None:
    """The checkpoint that made the last latent, whose scale it has."""
    params = render.params
    refined = first_refined(params, plan_of(PlanKey.of(params), levels), levels)
    return render.checkpoint if refined is None else params.refiner_checkpoint
