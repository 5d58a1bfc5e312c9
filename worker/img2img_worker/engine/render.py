"""One picture to render, as the engine is asked for it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from img2img_shared.params import Params


@dataclass(frozen=True, kw_only=True, eq=False)
class Render:
    """What to render: a prepared init image, and everything that decides the picture."""

    params: Params
    #: of this image: an input's own replaces its job's
    prompt: str
    negative_prompt: str
    seed: int
    subseed: int
    #: what is encoded: resized, cropped and filled, uint8 [H, W, 3]
    pixels: NDArray[np.uint8]
    #: (h, w) of the latent that is denoised
    latent_size: tuple[int, int]
    #: 1 = repaint, 0 = keep, float32 [h, w]
    mask: NDArray[np.float32] | None = None
    #: in pixel space, 255 = repaint, uint8 [H, W]; for checkpoints that look at it
    cond_mask: NDArray[np.uint8] | None = None
