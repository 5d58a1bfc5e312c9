"""What a worker does beside rendering: renew its leases, say that it lives and what it has, keep house."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable

from celery import Celery

from img2img_shared.errors import FarmError
from img2img_shared.farm.input_janitor import EVERY as TIDY_EVERY
from img2img_shared.farm.input_janitor import InputJanitor
from img2img_shared.ledger import Ledger
from img2img_shared.ledger.image_claims import TERM
from img2img_shared.ledger.inversion_names import InversionInfo, InversionNames
from img2img_shared.ledger.lora_names import EVERY, LoraNames
from img2img_shared.queue import top_up
from img2img_shared.records import WorkerInfo
from img2img_worker.farm.leases import Leases
from img2img_worker.models.adapters.lora import Loras
from img2img_worker.models.prompts.textual_inversion import Inversions, TextualInversions

log = logging.getLogger(__name__)

#: seconds, at most, until a running image hears that its job was cancelled
HEARING = 1.0
#: seconds, at most, between two rounds of the janitor
ROUND = 1.0
#: seconds, at most, until what failed is tried again
RETRY = 1.0
#: seconds for each thread to end
PARTING = 10.0


class WorkerMaintenance:
    """Threads of their own: leases must be renewed even while house-keeping, or a slow folder, takes long."""

    def __init__(
        self,
        *,
        app: Celery,
        ledger: Ledger,
        leases: Leases,
        worker: WorkerInfo,
        loras: Loras,
        lora_names: LoraNames,
        inversions: TextualInversions,
        inversion_names: InversionNames,
        input_janitor: InputJanitor,
    ) -> None:
        self._app = app
        self._ledger = ledger
        self._leases = leases
        self._worker = worker
        self._loras = loras
        self._lora_names = lora_names
        self._inversions = inversions
        self._inversion_names = inversion_names
        self._input_janitor = input_janitor
        self._stopped = threading.Event()
        #: when to ask again whether this worker is the janitor
        self._candidate_from = 0.0
        self._is_ending = False
        tasks = (
            # half of what the ledger waits for a worker
            ("leases", self._live, ledger.lease / 4),
            ("cancels", leases.hear_cancels, min(HEARING, ledger.lease / 8)),
            # well below half a lease, after which the ledger takes silence for an outage
            ("janitor", self._keep_house, min(ROUND, ledger.lease / 8)),
            ("loras", self._say, EVERY),
            ("inputs", self._tidy, TIDY_EVERY),
        )
        self._threads = [
            threading.Thread(target=self._repeat, args=(work, seconds), name=name, daemon=True)
            for name, work, seconds in tasks
        ]

    def start(self) -> None:
        """Begin to beat."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Beat no more; a folder or a store that hangs is not waited for."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(PARTING)

    def _live(self) -> None:
        self._leases.renew()
        if not self._ledger.beat(self._worker) and not self._is_ending:
            self._is_ending = True  # a second signal would be one to end at once
            log.critical("%s stands for another checkpoint now: this worker ends", self._worker.model)
            os.kill(os.getpid(), signal.SIGTERM)

    def _keep_house(self) -> None:
        model = self._worker.model
        if time.monotonic() < self._candidate_from:
            return
        sweep = self._ledger.take_back(model, self._worker.id)
        if sweep is None:  # another worker's part: on a large farm not all are to ask each second
            self._candidate_from = time.monotonic() + min(TERM, self._ledger.lease / 8)
            return
        if sweep.handed_back or sweep.suspects or sweep.failed:
            log.warning("taken back: %s", sweep)
        top_up(self._app, self._ledger, model)

    def _say(self) -> None:
        self._lora_names.say(self._worker.id, self._loras.names)
        self._inversion_names.say(self._worker.id, _infos(self._inversions.current()))

    def _tidy(self) -> None:
        self._input_janitor.round()

    def _repeat(self, work: Callable[[], None], every: float) -> None:
        while not self._stopped.is_set():  # at once, too: who waits for this worker sees it when it is there
            pause = every
            try:
                work()
            except FarmError as error:
                log.warning("%s", error)
                pause = min(every, RETRY)
            except Exception:
                log.exception("the worker goes on")
            self._stopped.wait(pause)


def _infos(inversions: Inversions) -> dict[str, InversionInfo]:
    loaded = {
        name: InversionInfo(
            step=each.step, shape=sum(part.shape[-1] for part in each.vectors), vectors=each.length
        )
        for name, each in inversions.loaded.items()
    }
    return loaded | {name: InversionInfo(reason=reason) for name, reason in inversions.skipped.items()}
