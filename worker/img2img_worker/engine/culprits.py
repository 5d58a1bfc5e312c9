"""Does work for several images at once, and finds out which of them makes it fail."""

import logging
from collections.abc import Callable, Sequence

import torch

from img2img_worker.engine.state import RenderState

log = logging.getLogger(__name__)

Work = Callable[[Sequence[RenderState]], None]


def run_isolating_failures(
    work: Work, images: Sequence[RenderState], fail: Callable[[RenderState, Exception], None]
) -> list[RenderState]:
    """Do `work` for all images together, or, if that fails, for each alone, so that only culprits fail.

    Args:
        fail: called with each culprit and its error.

    Returns:
        the images for which it succeeded.

    Raises:
        torch.OutOfMemoryError: no image is to blame.
    """
    if not images:
        return []
    try:
        work(images)
        return list(images)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if len(images) == 1:
            fail(images[0], error)
            return []
        log.warning("%d images together failed: each is tried alone", len(images), exc_info=error)
    return [image for image in images if run_isolating_failures(work, [image], fail)]
