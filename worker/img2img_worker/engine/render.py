"""One picture to render, as the engine is asked for it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from img2img_shared.control import ControlUnit
from img2img_shared.params import Params
from img2img_worker.models.pinned_files import NOTHING_PINNED, PinnedFiles
from img2img_worker.sampling.plan_key import PlanKey

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Control:
    """A control unit with its pictures, at the size of the render."""

    unit: ControlUnit
    #: [H, W, 3]; or [H, W, 4] with the mask of what is to be repainted, 255 where it is; float32 may have
    #: fractions of the same numbers. Of an IP-Adapter's unit, what CLIP is to see of it, at CLIP's size,
    #: with what it is not to see
    picture: Pixels | NDArray[np.float32]
    #: others that an IP-Adapter's unit sees: the mean of them all counts
    more: tuple[Pixels, ...] = ()
    #: what an adapter sees in its place: in a hires fix' second pass, what the unit had in the first, at that
    #: pass's size; None: it was not used
    first_pass: Pixels | NDArray[np.float32] | None = None
    #: [H, W], 255 where the unit acts; None: everywhere
    region: Pixels | None = None
    #: whether its network has no say in this pass, and only what it does to answers counts
    amends_only: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Render:
    """What to render, and all that decides it: from an init image, from a latent, or from noise alone."""

    params: Params
    #: which files are meant by the names in them and in the prompts
    pinned: PinnedFiles = NOTHING_PINNED
    #: another than the worker's own, by its name
    checkpoint: str | None = None
    #: of this image: an input's own replaces its job's
    prompt: str
    negative_prompt: str
    seed: int
    subseed: int
    #: (h, w) of the latent that is denoised
    latent_size: tuple[int, int]
    #: what is encoded: resized, cropped and filled, uint8 [H, W, 3]
    pixels: Pixels | None = None
    #: what it begins from instead, float32 [C, h, w]; with neither, a latent of zeros
    latent: NDArray[np.float32] | None = None
    #: 1 = repaint, 0 = keep, float32 [h, w]
    mask: NDArray[np.float32] | None = None
    #: in pixel space, 255 = repaint, uint8 [H, W]; for checkpoints that look at it
    cond_mask: Pixels | None = None
    #: where it begins from a latent, the picture that checkpoints look at, [H, W, 3]; uint8, or float32 that
    #: may have fractions of the same numbers; None: see `shows_latent`
    cond_pixels: Pixels | NDArray[np.float32] | None = None
    #: whether they look at the latent that it begins from, decoded; else they see nothing
    shows_latent: bool = False
    #: what holds it to control pictures
    controls: tuple[Control, ...] = ()
    #: the answer is the last latent, float32 [C, h, w], and not its picture
    wants_latent: bool = False
    #: model calls of the pass before this one, after which its prompts' edits count on (A1111's hires fix)
    earlier_calls: int = 0
    #: what its init image is known by, where the infotext shall tell it
    init_hash: str | None = None
    #: another prompt than its own, whose LoRAs act on its texts
    read_with: str | None = None

    @property
    def is_second_pass(self) -> bool:
        """Whether it is that of a hires fix."""
        return self.earlier_calls > 0

    @property
    def plan_key(self) -> PlanKey:
        """What decides its steps."""
        return PlanKey.of(self.params, second_pass=self.is_second_pass)

    @property
    def reading_prompt(self) -> str:
        """The prompt whose LoRAs act on its texts."""
        return self.prompt if self.read_with is None else self.read_with
