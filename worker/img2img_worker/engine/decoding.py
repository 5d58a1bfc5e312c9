"""Finished images on their way to pictures: decoded step by step, between which others have model calls."""

import time
from collections.abc import Callable, Hashable, Sequence

from img2img_worker.engine.culprits import Work
from img2img_worker.engine.latents import TOGETHER
from img2img_worker.engine.side_stream import SideStream
from img2img_worker.engine.state import RenderState
from img2img_worker.models.steps import Steps

#: pixels that the VAE takes at once while others want their next model call, but for a single picture
PIXELS = 2**20
#: steps between two model calls, at most: a device does not say how long they take
STEPS = 6


class Decoding:
    """Which images are decoded together, and how far they are.

    Args:
        side: where they are decoded beside the model calls, if there is one.
        start: what is done with such images, to their end.
        finished: those that have their last latents by now.
        do: does a step for images; those that it fails for leave.
    """

    def __init__(
        self,
        side: SideStream,
        start: Callable[[Sequence[RenderState]], Steps[None]],
        finished: Callable[[], Sequence[RenderState]],
        do: Callable[[Work, Sequence[RenderState]], object],
    ) -> None:
        self._side = side
        self._start = start
        self._finished = finished
        self._do = do
        self._begun: dict[tuple[RenderState, ...], Steps[None]] = {}

    def advance(self, seconds: float, *, is_idle: bool) -> None:
        """Takes finished images on to their pictures, after a model call that took so many seconds.

        Args:
            is_idle: nothing else is to be done.
        """
        if self._side:
            self._launch(is_idle=is_idle)
        else:
            self._step_for(seconds)

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

    def _step_for(self, seconds: float) -> None:
        """A batch's steps for as long, so that pictures take half of the time."""
        end = time.monotonic() + seconds
        for _ in range(STEPS):
            batches = self.batches(self._finished())
            if not batches:
                return
            self._do(self.step, batches[0])
            if batches[0][0].slot is None or time.monotonic() >= end:
                return

    def _launch(self, *, is_idle: bool) -> None:
        """All that there is room for: their slots are free by then, however long the device takes."""
        if is_idle and self._finished():
            self._side.wait_for_room()
        while not self._side.is_full and (batches := self.batches(self._finished())):
            self._do(self.step, batches[0])


def at_once(image: RenderState) -> int:
    """Pictures of its size that the VAE takes together."""
    return max(1, PIXELS // (image.render.params.width * image.render.params.height))


def _kind(image: RenderState) -> Hashable:
    """What images have in common that are decoded together."""
    phase = image.phase
    ways = phase.tiling, image.render.wants_latent, image.overflowed is None
    return image.shape, ways, id(phase.checkpoint), phase.vaes.decoder
