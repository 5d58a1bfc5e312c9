"""Work for several images at once, of which one may be at fault."""

import logging
from collections.abc import Callable, Sequence

import torch

from img2img_worker.engine.state import RenderState

log = logging.getLogger(__name__)

Work = Callable[[Sequence[RenderState]], None]


def run_isolating_failures(
    work: Work, images: Sequence[RenderState], fail: Callable[[RenderState, Exception], None]
) -> list[RenderState]:
    """Those that `work` could be done for: together, or else each alone, so that only culprits fail.

    Args:
        fail: is given each culprit, and what it was.

    Raises:
        torch.OutOfMemoryError: that is nobody's fault.
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
