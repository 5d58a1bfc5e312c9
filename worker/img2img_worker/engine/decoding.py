"""Finished images on their way to pictures: decoded step by step, between which others have model calls."""

from collections.abc import Callable, Hashable, Sequence

from img2img_worker.engine.latents import TOGETHER
from img2img_worker.engine.state import RenderState
from img2img_worker.models.steps import Steps

#: pixels that the VAE takes at once while others want their next model call, but for a single picture
PIXELS = 2**20


class Decoding:
    """Which images are decoded together, and how far they are.

    Args:
        start: what is done with such images, to their end.
    """

    def __init__(self, start: Callable[[Sequence[RenderState]], Steps[None]]) -> None:
        self._start = start
        self._begun: dict[tuple[RenderState, ...], Steps[None]] = {}

    def batches(self, finished: Sequence[RenderState]) -> list[tuple[RenderState, ...]]:
        """`finished` as they are to be decoded: the most urgent first, and before others what has begun."""
        taken = {image for batch in self._begun for image in batch}
        alike: dict[Hashable, list[RenderState]] = {}
        for image in sorted(finished, key=lambda image: -image.priority):
            if image not in taken:
                alike.setdefault(_kind(image), []).append(image)
        batches = [*self._begun]
        for images in alike.values():
            size = min(TOGETHER, at_once(images[0]))
            batches += [tuple(images[start : start + size]) for start in range(0, len(images), size)]
        return sorted(batches, key=lambda batch: -max(image.priority for image in batch))

    def step(self, images: Sequence[RenderState]) -> None:
        """The next one of a batch; its first, if it has not begun."""
        batch = tuple(images)
        if batch not in self._begun:
            self._begun[batch] = self._start(batch)
        try:
            next(self._begun[batch])
        except StopIteration:
            self._begun.pop(batch, None)
        except BaseException:
            del self._begun[batch]
            raise

    def drop(self, image: RenderState) -> None:
        """What has begun with it is of no use any more: the others begin anew."""
        self._begun = {batch: steps for batch, steps in self._begun.items() if image not in batch}

    def forget(self) -> None:
        """All begin anew: what has begun holds memory."""
        self._begun.clear()


def at_once(image: RenderState) -> int:
    """Pictures of its size that the VAE takes together."""
    return max(1, PIXELS // (image.render.params.width * image.render.params.height))


def _kind(image: RenderState) -> Hashable:
    """What images have in common that are decoded together."""
    phase = image.phase
    ways = phase.tiling, image.render.wants_latent, image.overflowed is None
    return image.shape, ways, id(phase.checkpoint), phase.vaes.decoder
