"""The claims that this process holds: one thread renews them all, and stops what is lost."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

from img2img_shared.ledger import Ledger
from img2img_shared.records import Claim
from img2img_worker.engine.engine import Pixels

log = logging.getLogger(__name__)


class LeasedClaim:
    """One claim in hand. ``lost`` is set when its lease is, or its job was cancelled; ``interrupted`` when it
    is to end early, with what there is."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.lost = False
        self.interrupted = False
        #: what the engine makes of it; None: not begun
        self.picture: Future[Pixels] | None = None
        #: model calls done, and in all; None: the first is not
        self.steps: tuple[int, int] | None = None
        self._stop: Callable[[], object] | None = None
        self._end_early: Callable[[], object] | None = None
        self._lock = threading.Lock()

    def counter(self) -> Callable[[int, int], None]:
        """What the engine is to call for each model call of one render, after those that came before it."""
        before, _ = self.steps or (0, 0)

        def count(done: int, total: int) -> None:
            self.steps = before + done, before + total

        return count

    def stop_with(self, stop: Callable[[], object], end_early: Callable[[], object]) -> None:
        """Call `stop` when the claim is lost, `end_early` when it is interrupted; at once if it is by now."""
        with self._lock:
            self._stop, self._end_early = stop, end_early
            lost, interrupted = self.lost, self.interrupted
        if lost:
            stop()
        elif interrupted:
            end_early()

    def lose(self) -> None:
        """The ledger no longer counts on this attempt: end it."""
        with self._lock:
            self.lost = True
            stop = self._stop
        if stop is not None:
            stop()

    def interrupt(self) -> None:
        """The image is wanted as it is: end it early."""
        with self._lock:
            self.interrupted = True
            end_early = self._end_early
        if end_early is not None:
            end_early()


class Leases:
    """All claims of a process."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        #: the last cancellation that was heard of
        self._heard = "0"
        self._held: dict[Claim, LeasedClaim] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, claim: Claim) -> LeasedClaim:
        """Renew `claim` from now on."""
        held = LeasedClaim(claim)
        with self._lock:
            self._held[claim] = held
        return held

    def let_go(self, held: LeasedClaim) -> None:
        """Renew it no longer."""
        with self._lock:
            self._held.pop(held.claim, None)

    def under_way(self) -> list[tuple[LeasedClaim, Future[Pixels]]]:
        """Claims that the engine has, and the pictures to be."""
        with self._lock:
            return [(held, held.picture) for held in self._held.values() if held.picture is not None]

    def renew(self) -> None:
        """Renew all in one call, and stop what was lost. While Redis is away nothing is lost:
        the ledger waits a lease after an outage before it takes anything back.

        Raises:
            Unavailable: Redis does not answer.
        """
        with self._lock:
            claims = list(self._held)
        self._renew(claims)

    def hear_cancels(self) -> None:
        """Stop the images of jobs that were cancelled since this was asked last.

        Raises:
            Unavailable: Redis does not answer.
        """
        jobs, heard = self._ledger.cancels(self._heard)
        with self._lock:
            claims = [claim for claim in self._held if claim.job_id in jobs]
        self._renew(claims)
        self._heard = heard

    def _renew(self, claims: list[Claim]) -> None:
        for one in self._ledger.renew(claims):
            claim, held = one.claim, self._held.get(one.claim)
            if held is None or (one.interrupted and held.interrupted):
                continue
            why = "interrupted" if one.interrupted else "cancelled" if one.cancelled else "its lease was lost"
            log.info("image %d of job %s: %s", claim.index, claim.job_id, why)
            if one.interrupted:
                held.interrupt()
            else:
                held.lose()

    def lose_all(self) -> None:
        """Stop everything in hand: the worker ends."""
        with self._lock:
            held = list(self._held.values())
        for one in held:
            one.lose()
