"""One picture to render, as the engine is asked for it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from img2img_shared.params import Params


@dataclass(frozen=True, kw_only=True, eq=False)
class Render:
    """What to render, and all that decides it: from an init image, from a latent, or from noise alone."""

    params: Params
    #: of this image: an input's own replaces its job's
    prompt: str
    negative_prompt: str
    seed: int
    subseed: int
    #: (h, w) of the latent that is denoised
    latent_size: tuple[int, int]
    #: what is encoded: resized, cropped and filled, uint8 [H, W, 3]
    pixels: NDArray[np.uint8] | None = None
    #: what it begins from instead, float32 [C, h, w]; with neither, a latent of zeros
    latent: NDArray[np.float32] | None = None
    #: 1 = repaint, 0 = keep, float32 [h, w]
    mask: NDArray[np.float32] | None = None
    #: in pixel space, 255 = repaint, uint8 [H, W]; for checkpoints that look at it
    cond_mask: NDArray[np.uint8] | None = None
    #: the answer is the last latent, float32 [C, h, w], and not its picture
    wants_latent: bool = False
    #: model calls of the pass before this one, after which its prompts' edits count on (A1111's hires fix)
    earlier_calls: int = 0
