"""The images in flight: their slots, and the batches that have their tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from img2img_worker.engine.batch import Batch
from img2img_worker.engine.scheduler import Scheduler
from img2img_worker.engine.state import RenderState


class InFlight:
    """Gives images slots, and puts them into a batch for each latent shape.

    Args:
        most: the number of slots.
    """

    def __init__(self, device: torch.device, most: int) -> None:
        self._device = device
        self.slots: Scheduler[RenderState] = Scheduler(most, lambda image: image.priority)
        self._batches: dict[tuple[int, int, int], Batch] = {}

    def batch(self, image: RenderState) -> Batch:
        """The batch that has the tensors of `image`, which is in flight."""
        return self._batches[image.shape]

    def latents(self, images: Sequence[RenderState]) -> Tensor:
        """The last latents [n, C, h, w] of `images` of one shape."""
        return self.batch(images[0]).results(images)

    def enter(self, images: Sequence[RenderState]) -> None:
        """Give each image a slot."""
        for image in images:
            if image.shape not in self._batches:
                self._batches[image.shape] = Batch(image.shape, self._device)
            self.batch(image).put(image)
            self.slots.enter(image, image.group)

    def advance(self, image: RenderState) -> None:
        """Bring an image whose call is answered to its next call."""
        self.batch(image).advance(image)
        self.slots.move(image, image.group)

    def leave(self, image: RenderState, *, keep: bool = False) -> None:
        """Free an image's slot; with `keep`, the image keeps what was done so far."""
        batch = self.batch(image)
        batch.drop(image, keep=keep)
        self.slots.leave(image)
        if not batch:
            del self._batches[image.shape]
