"""A1111's soft inpainting: the result shows where it has changed the picture."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from img2img_worker.engine.render import Render
from img2img_worker.farm.render_steps import RenderSteps
from img2img_worker.pictures.soft_opening import change, soft_opening


def soft_inpainted(
    render: Render, mask: NDArray[np.float32]
) -> RenderSteps[tuple[NDArray[np.uint8], Image.Image]]:
    """The picture, and where it shows (L, of its size), which the latents before and after tell.

    Args:
        mask: of `render`, [h, w].
    """
    (after,) = yield [replace(render, wants_latent=True)]
    # of these two, neither has a model call
    still = render.params.model_copy(update={"denoising_strength": 0.0, "refiner_checkpoint": None})
    begin = replace(render, params=still, wants_latent=True)
    decode = replace(render, params=still, pixels=None, mask=None, cond_mask=None, latent=after)
    before, pixels = yield [begin, decode]
    return pixels, soft_opening(change(before, after), mask, render.params)
