"""The claims of this process: one thread renews them all, and stops those that are lost."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from img2img_shared.errors import FarmError
from img2img_shared.job import ImageState
from img2img_shared.ledger import Ledger
from img2img_shared.records import Claim, ImageStatus
from img2img_worker.engine.engine import Pixels
from img2img_worker.farm.current_model import LoadedModel
from img2img_worker.farm.events import Interrupted, Lost, Observer, Stepped

#: states in which an attempt's report leaves its image
_ENDED = (ImageState.DONE, ImageState.FAILED)


class Stopped(Exception):
    """The worker ends, or the claim was lost: the image must be left as it is."""


class LeasedClaim:
    """A claim of this process.

    It is ``lost`` when its lease is, or its job was cancelled, or the worker ends. It is ``interrupted`` when
    it is to end early, with what there is.
    """

    def __init__(self, claim: Claim, model: LoadedModel, observe: Observer) -> None:
        self.claim = claim
        #: that it is made with
        self.model = model
        self.interrupted = False
        #: whether other images of its job need the same files
        self.is_like_its_job = False
        self._observe = observe
        self._lost = threading.Event()
        self._since = time.monotonic()
        #: when its thread asked the store for what has not come yet
        self._asked: float | None = None
        #: what the engine makes of it; None: not begun
        self.picture: Future[Pixels] | None = None
        #: model calls done, and in all; None: the first is not
        self.steps: tuple[int, int] | None = None
        self._stop: Callable[[], object] | None = None
        self._end_early: Callable[[], object] | None = None
        self._lock = threading.Lock()

    @property
    def lost(self) -> bool:
        """Whether this worker must not render it any more."""
        return self._lost.is_set()

    @property
    def seconds(self) -> float:
        """Seconds since it was claimed."""
        return time.monotonic() - self._since

    def counter(self) -> Callable[[int, int], None]:
        """A callback for the model calls of one render, which adds them to those of the renders before."""
        before, _ = self.steps or (0, 0)

        def count(done: int, total: int) -> None:
            self.steps = before + done, before + total
            self._observe(Stepped(claim=self.claim, done=before + done, total=before + total))

        return count

    @contextmanager
    def asking(self) -> Iterator[None]:
        """A context in which the store is called."""
        self._asked = time.monotonic()
        try:
            yield
        finally:
            self._asked = None

    def hangs(self, seconds: float) -> bool:
        """Whether a call to the store has taken so long."""
        asked = self._asked
        return asked is not None and time.monotonic() - asked > seconds

    def wait(self, seconds: float) -> None:
        """Wait before a retry.

        Raises:
            Stopped: it was lost meanwhile, or before.
        """
        if self._lost.wait(seconds):
            raise Stopped

    def stop_with(self, stop: Callable[[], object], end_early: Callable[[], object]) -> None:
        """Call `stop` when the claim is lost, `end_early` when it is interrupted; now if it already is."""
        with self._lock:
            self._stop, self._end_early = stop, end_early
            lost, interrupted = self.lost, self.interrupted
        if lost:
            stop()
        elif interrupted:
            end_early()

    def lose(self) -> None:
        """Stop this attempt, on which the ledger no longer counts."""
        with self._lock:
            self._lost.set()
            stop = self._stop
        if stop is not None:
            stop()

    def interrupt(self) -> None:
        """End the image early: it is wanted as it is."""
        with self._lock:
            self.interrupted = True
            end_early = self._end_early
        if end_early is not None:
            end_early()


class Leases:
    """All claims of a process."""

    def __init__(self, ledger: Ledger, observe: Observer) -> None:
        self._ledger = ledger
        self._observe = observe
        #: the last cancellation that was heard of
        self._heard = "0"
        self._held: dict[Claim, LeasedClaim] = {}
        #: others may have them, but their threads still wait for the store
        self._given_back: list[LeasedClaim] = []
        self._is_ending = False
        self._lock = threading.Lock()
        self._none = threading.Condition(self._lock)

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, claim: Claim, model: LoadedModel) -> LeasedClaim:
        """Renew `claim` from now on; if the worker is ending, it is lost already."""
        held = LeasedClaim(claim, model, self._observe)
        with self._lock:
            self._held[claim] = held
            is_ending = self._is_ending
        if is_ending:
            held.lose()
        return held

    def let_go(self, held: LeasedClaim) -> None:
        """Stop renewing it."""
        with self._lock:
            self._drop(held)

    def wait_for_none(self, seconds: float) -> None:
        """Wait until no claim is in hand, or for that long."""
        with self._none:
            self._none.wait_for(lambda: not self._held, seconds)

    def under_way(self) -> list[tuple[LeasedClaim, Future[Pixels]]]:
        """The claims that the engine has, with the futures of their pictures."""
        with self._lock:
            return [(held, held.picture) for held in self._held.values() if held.picture is not None]

    def claims(self) -> list[Claim]:
        """All claims in hand."""
        with self._lock:
            return list(self._held)

    def hanging(self, seconds: float) -> list[LeasedClaim]:
        """Claims with a call to the store that has taken so long, including those given back."""
        with self._lock:
            self._given_back = [held for held in self._given_back if held.hangs(seconds)]
            return [*self._given_back, *(held for held in self._held.values() if held.hangs(seconds))]

    def give_back(self, held: LeasedClaim) -> None:
        """Give the image back to others, while its thread hangs: what that thread reports will be too late.

        Raises:
            Unavailable: Redis does not answer.
        """
        if held.lost:
            return
        self._ledger.release(held.claim)
        held.lose()
        with self._lock:
            self._given_back.append(held)
            self._drop(held)

    def renew(self) -> None:
        """Renew all in one call, and stop those that are lost.

        While Redis is away, nothing is lost: the ledger waits for a lease after an outage before it takes
        anything back.

        Raises:
            Unavailable: Redis does not answer.
        """
        self._renew(self.claims())

    def hear_cancels(self) -> None:
        """Stop the images of jobs that were cancelled since the last call.

        Raises:
            Unavailable: Redis does not answer.
        """
        jobs, heard = self._ledger.cancels(self._heard)
        with self._lock:
            claims = [claim for claim in self._held if claim.job_id in jobs]
        self._renew(claims)
        self._heard = heard

    def _drop(self, held: LeasedClaim) -> None:
        """Forget it; to be called with the lock."""
        self._held.pop(held.claim, None)
        if not self._held:
            self._none.notify_all()

    def _renew(self, claims: list[Claim]) -> None:
        by_model: dict[str, list[Claim]] = {}
        for claim in claims:
            by_model.setdefault(claim.model, []).append(claim)
        for one in [lost for some in by_model.values() for lost in self._ledger.renew(some)]:
            claim, held = one.claim, self._held.get(one.claim)
            if held is None or (held.interrupted if one.interrupted else held.lost):
                continue  # it ends already
            if one.interrupted:
                held.interrupt()
                self._observe(Interrupted(claim=claim))
                continue
            image = None if one.cancelled else self._image(claim)
            if _end_by(claim, image):
                continue  # it has been reported meanwhile, by this worker
            held.lose()
            self._observe(Lost(claim=claim, cancelled=one.cancelled, holder=image.worker if image else None))

    def end_of(self, claim: Claim) -> ImageState | None:
        """The state in which this attempt has ended its image; None: it has not, or it cannot be told."""
        return _end_by(claim, self._image(claim))

    def _image(self, claim: Claim) -> ImageStatus | None:
        """The state of a claim's image now, if it can be told."""
        try:
            (image,) = self._ledger.images(claim.job_id, claim.tenant, claim.index, 1)
        except (FarmError, ValueError):  # the job is forgotten, or Redis is away again
            return None
        return image

    def lose_all(self) -> None:
        """Stop everything in hand, and every later claim: the worker ends."""
        with self._lock:
            self._is_ending = True
            held = list(self._held.values())
        for one in held:
            one.lose()


def _end_by(claim: Claim, image: ImageStatus | None) -> ImageState | None:
    is_its_end = image is not None and image.attempt == claim.attempt and image.state in _ENDED
    return image.state if image is not None and is_its_end else None
