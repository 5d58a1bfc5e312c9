"""The images that are in flight: who has a slot, and where its tensors lie."""

from collections.abc import Sequence

import torch
from torch import Tensor

from img2img_worker.engine.batch import Batch
from img2img_worker.engine.scheduler import Scheduler
from img2img_worker.engine.state import RenderState


class InFlight:
    """Images by their slots, and in a batch for each shape of a latent.

    Args:
        most: slots, at most.
    """

    def __init__(self, device: torch.device, most: int) -> None:
        self._device = device
        self.slots: Scheduler[RenderState] = Scheduler(most, lambda image: image.priority)
        self._batches: dict[tuple[int, int, int], Batch] = {}

    def batch(self, image: RenderState) -> Batch:
        """The one that has the tensors of `image`, which is in flight."""
        return self._batches[image.shape]

    def latents(self, images: Sequence[RenderState]) -> Tensor:
        """The last ones of `images` of one shape, [n, C, h, w]."""
        return self.batch(images[0]).results(images)

    def enter(self, images: Sequence[RenderState]) -> None:
        """They have a slot each from now on."""
        for image in images:
            if image.shape not in self._batches:
                self._batches[image.shape] = Batch(image.shape, self._device)
            self.batch(image).put(image)
            self.slots.enter(image, image.group)

    def advance(self, image: RenderState) -> None:
        """Takes an image whose call is answered to its next one."""
        self.batch(image).advance(image)
        self.slots.move(image, image.group)

    def leave(self, image: RenderState, *, keep: bool = False) -> None:
        """Its slot is free; with `keep`, it takes along how far it is."""
        batch = self.batch(image)
        batch.drop(image, keep=keep)
        self.slots.leave(image)
        if not batch:
            del self._batches[image.shape]
