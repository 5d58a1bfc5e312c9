"""Which rows of some images go into one model call, and how that call is made."""

from collections.abc import Sequence

from img2img_worker.engine.batch import Batch
from img2img_worker.engine.counts import Counts
from img2img_worker.engine.exact_sharing import ExactSharing
from img2img_worker.engine.model_call import Part
from img2img_worker.engine.packer import BatchPacker
from img2img_worker.engine.state import RenderState


class CallMaker:
    """Makes model calls, and counts them.

    Args:
        sharing: what may be shared where rows are to keep their bits; None: all that can be.
    """

    def __init__(self, packer: BatchPacker, sharing: ExactSharing | None, counts: Counts) -> None:
        self._packer = packer
        self._sharing = sharing
        self._counts = counts

    def parts(self, images: Sequence[RenderState]) -> dict[RenderState, Part]:
        """The rows of each of `images` that go into a model call; not all of them may have a part in it.

        Args:
            images: of one group, those that waited longest first.
        """
        packed = self._packer.pack([image.n_wanted for image in images])
        parts: Sequence[Part] = [
            Part(image=image, rows=image.rows, start=len(image.answers), stop=len(image.answers) + n)
            for image, n in zip(images, packed, strict=True)
            if n and image.rows is not None
        ]
        if self._sharing is not None:
            parts = self._sharing.choose(parts)
        return {part.image: part for part in parts}

    def call(self, batch: Batch, parts: Sequence[Part]) -> list[RenderState]:
        """Has the model answer `parts`, of images of `batch`.

        Returns:
            the images whose last rows these were.
        """
        rows = sum(len(part) for part in parts)
        if self._sharing is not None and self._sharing.is_to_be_tried(parts):
            complete, exact = batch.try_sharing(parts)
            self._sharing.note(parts, exact)
            calls, padding = 1 + len(parts), rows
        else:
            calls, padding = 1, self._packer.padding(rows)
            complete = batch.call(parts, padding)
        self._counts.calls += calls
        self._counts.rows += rows
        self._counts.padding += padding
        return complete
