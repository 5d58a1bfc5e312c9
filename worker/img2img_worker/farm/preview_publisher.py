"""Publishes previews of images in hand while somebody watches their jobs."""

import io
import logging
import threading
import time
from concurrent.futures import CancelledError, Future

from PIL import Image

from img2img_shared.errors import Unavailable
from img2img_shared.ledger.previews import Previews
from img2img_shared.records import Claim
from img2img_worker.engine.engine import Pixels
from img2img_worker.farm.leases import Leases

log = logging.getLogger(__name__)

#: seconds for which the engine may take to answer: a step of a large picture on a CPU is long
PATIENCE = 60.0


class PreviewPublisher:
    """A thread that publishes previews every few seconds; one call to Redis if nobody watches."""

    def __init__(self, *, previews: Previews, leases: Leases, seconds: float) -> None:
        self._previews = previews
        self._leases = leases
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="previews", daemon=True)

    def start(self) -> None:
        """Start the thread, unless the interval is 0 seconds."""
        if self._seconds:
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()
        if self._seconds:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self._show_all()
            except Unavailable as error:
                log.debug("no previews: %s", error)
            except Exception:
                log.exception("no previews; the worker goes on")

    def _show_all(self) -> None:
        under_way = self._leases.under_way()
        watched = self._previews.watched({held.claim.job_id for held, _ in under_way})
        seen = [
            (held, picture)
            for held, picture in under_way
            if held.claim.job_id in watched and not picture.done()
        ]
        estimates = [(held.claim, held.model.engine.estimate(picture)) for held, picture in seen]
        for held, _ in seen:
            if held.steps is not None:
                self._previews.count(held.claim.job_id, held.claim.index, *held.steps)
        end = time.monotonic() + PATIENCE
        for claim, estimate in estimates:
            pixels = self._awaited(claim, estimate, end)
            if pixels is not None:
                self._previews.show(claim.job_id, claim.index, jpeg(pixels))

    def _awaited(self, claim: Claim, estimate: Future[Pixels], end: float) -> Pixels | None:
        """The engine's answer, or None if there is none in time."""
        while not self._stopped.is_set() and time.monotonic() < end:
            try:
                return estimate.result(0.2)
            except TimeoutError:
                continue
            except CancelledError:  # not begun yet, or done
                return None
            except Exception as error:
                log.debug("image %d of job %s: no preview: %r", claim.index, claim.job_id, error)
                return None
        estimate.cancel()
        return None


def jpeg(pixels: Pixels) -> bytes:
    """uint8 [h, w, 3] as a small JPEG file."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=80)
    return data.getvalue()
