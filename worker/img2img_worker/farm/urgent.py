"""Claims images that are more urgent than those a full worker has, besides its tickets."""

import threading
import time

from img2img_shared.errors import FarmError
from img2img_shared.ledger import Ledger
from img2img_worker.farm.claim_loop import ClaimLoop
from img2img_worker.farm.current_model import CurrentModel
from img2img_worker.farm.events import Observer, Warned
from img2img_worker.farm.health import Health
from img2img_worker.farm.leases import LeasedClaim, Leases

#: seconds between two looks of a full worker that is told of nothing: some microseconds of Redis
EVERY = 0.25
#: seconds that workers with threads left have to take what is told of while nothing else waits
TICKETS_FIRST = 0.05
#: seconds that a thread is waited for at the end
PARTING = 5.0


class UrgentClaims:
    """Threads that claim when all of the tickets' threads are busy, but a more urgent image waits.

    The engine gives such an image another's slot (see `Engine.submit`). One thread looks at a time: when it
    is told of one, and now and then, as not all are told of.

    Args:
        full: the number of images in hand with which no thread is left for a ticket.
        most: how many there may be beyond that.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        leases: Leases,
        health: Health,
        claim_loop: ClaimLoop,
        current: CurrentModel,
        full: int,
        most: int,
        stopping: threading.Event,
        observe: Observer,
    ) -> None:
        self._ledger = ledger
        self._leases = leases
        self._health = health
        self._claim_loop = claim_loop
        self._current = current
        self._full, self._most = full, most
        self._stopping = stopping
        self._observe = observe
        self._looking = threading.Lock()
        #: the last that was told
        self._heard = "0"
        self._threads = [
            threading.Thread(target=self._run, name=f"urgent-{number}", daemon=True) for number in range(most)
        ]

    def start(self) -> None:
        """Start looking."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Wait for the images in hand, once the worker ends."""
        for thread in self._threads:
            thread.join(PARTING)

    def _run(self) -> None:
        while not self._stopping.is_set():
            held = None
            with self._looking:
                while held is None and not self._stopping.is_set():
                    held = self._next()
            if held is not None:
                self._claim_loop.carry(held)

    def _next(self) -> LeasedClaim | None:
        """What a look finds; after one in vain, returns when the next may be worth it.

        Redis is asked nothing where there are threads left for tickets.
        """
        claims = self._leases.claims()
        if not self._full <= len(claims) < self._full + self._most or self._health.trouble:
            self._stopping.wait(EVERY)
            return None
        try:
            held = self._look(min(claim.priority for claim in claims))
            if held is None:
                self._wait()
            return held
        except FarmError as error:
            self._observe(Warned(text=f"nothing urgent is looked for: {error}"))
            self._stopping.wait(EVERY)
            return None

    def _look(self, lowest: int) -> LeasedClaim | None:
        first = self._ledger.most_urgent(self._current.info.model)
        return None if first is None or first <= lowest else self._claim_loop.take(above=lowest)

    def _wait(self) -> None:
        """Until something is told that is more urgent than an image in hand, or for a while."""
        end = time.monotonic() + EVERY
        while (left := end - time.monotonic()) > 0 and not self._stopping.is_set():
            told, self._heard = self._ledger.hear_urgent(self._current.info.model, self._heard, left)
            if told is not None and any(claim.priority < told.priority for claim in self._leases.claims()):
                if told.is_only:
                    self._stopping.wait(TICKETS_FIRST)
                return
