"""Ends a worker on SIGTERM, on Ctrl-C, or when its terminal has gone."""

import logging
import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType

from celery.worker import state

from img2img_shared.errors import Unavailable
from img2img_shared.interrupts import ending_signals
from img2img_shared.ledger import Ledger
from img2img_shared.records import WorkerInfo
from img2img_worker.farm.events import Ended, Observer
from img2img_worker.farm.leases import Leases

#: seconds for what is in hand to be put back by the threads that have it
PUT_BACK = 3.0
#: seconds, from the signal on, until the process has ended, whatever hangs in it: a step, a folder, a store
GRACE = 10.0


class Shutdown:
    """Puts everything in hand back at once. Nothing that hangs delays the end, as no image depends on it.

    A second signal ends the process at once, except that a terminal may tell twice that it has gone.
    """

    def __init__(
        self,
        *,
        stopping: threading.Event,
        leases: Leases,
        ledger: Ledger,
        worker: WorkerInfo,
        observe: Observer,
    ) -> None:
        self._stopping = stopping
        self._leases = leases
        self._ledger = ledger
        self._worker = worker
        self._observe = observe

    def take_over(self) -> None:
        """Handle the signals from now on."""
        for number in ending_signals():
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._stopping.is_set():
            if number == signal.SIGHUP:
                return
            os._exit(128 + number)
        self._stopping.set()
        state.should_stop = os.EX_OK  # what Celery's own handler does: it ends when its threads have
        # in a thread: a signal handler must not take locks that the code it interrupts may hold
        threading.Thread(target=self._end, name="stop", daemon=True).start()

    def _end(self) -> None:
        begun = time.monotonic()
        self._leases.lose_all()
        while len(self._leases) and time.monotonic() < begun + PUT_BACK:
            time.sleep(0.05)
        with suppress(Unavailable):  # else the leases run out
            for claim in self._leases.claims():
                self._ledger.release(claim)
        time.sleep(max(0.0, begun + GRACE - time.monotonic()))
        with suppress(Unavailable):
            self._ledger.leave(self._worker.id)
        self._observe(Ended(worker=self._worker))
        logging.shutdown()
        os._exit(os.EX_OK)
