"""What a worker does at intervals besides rendering: renew its leases, send beats, run janitors."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from img2img_shared.errors import FarmError
from img2img_shared.farm.store_janitor import EVERY as TIDY_EVERY
from img2img_shared.farm.store_janitor import StoreJanitor
from img2img_shared.ledger import Ledger
from img2img_shared.ledger.lora_names import EVERY
from img2img_shared.records import WorkerInfo, WorkerOrder
from img2img_worker.farm.current_model import CurrentModel
from img2img_worker.farm.events import Observer, Warned
from img2img_worker.farm.file_announcer import FileAnnouncer
from img2img_worker.farm.health import Health
from img2img_worker.farm.leases import Leases
from img2img_worker.farm.log_observer import LogObserver
from img2img_worker.farm.model_janitor import ModelJanitor
from img2img_worker.farm.model_switcher import ModelSwitcher
from img2img_worker.farm.reporter import Reporter
from img2img_worker.farm.travel.model_files import ModelFiles

#: seconds, at most, until a running image hears that its job was cancelled
HEARING = 1.0
#: seconds, at most, between two rounds of the janitor
ROUND = 1.0
#: seconds, at most, until what failed is tried again
RETRY = 1.0
#: leases without an answer of the store to one question, after which it hangs
HANGING = 3
#: seconds of a load after which others are to load the model too
LONG_LOAD = 600.0
#: seconds for each thread to end
PARTING = 10.0

#: why a worker claims nothing, in words
_ORDERS: Mapping[WorkerOrder | None, str] = {
    WorkerOrder.DISABLE: "it was disabled by an operator",
    WorkerOrder.DRAIN: "it was drained by an operator",
}


class WorkerMaintenance:
    """Threads for these tasks: leases must be renewed even while a janitor, or a slow folder, takes long."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        leases: Leases,
        current: CurrentModel,
        switcher: ModelSwitcher,
        files: ModelFiles,
        announcer: FileAnnouncer,
        model_janitor: ModelJanitor,
        store_janitor: StoreJanitor,
        health: Health,
        reporter: Reporter,
        log: LogObserver,
        observe: Observer,
    ) -> None:
        self._ledger = ledger
        self._leases = leases
        self._current = current
        self._switcher = switcher
        self._files = files
        self._health = health
        self._reporter = reporter
        self._log = log
        self._observe = observe
        self._stopped = threading.Event()
        self._beating = threading.Lock()
        #: when it was seen first that a model is being loaded
        self._loading_since: float | None = None
        self._is_ending = False
        #: what the ledger was told that is wrong
        self._told: str | None = None
        tasks = (
            # half of what the ledger waits for a worker
            ("leases", self._live, ledger.lease / 4),
            ("cancels", leases.hear_cancels, min(HEARING, ledger.lease / 8)),
            # well below half a lease, after which the ledger takes silence for an outage
            ("janitor", model_janitor.round, min(ROUND, ledger.lease / 8)),
            ("files", announcer.round, EVERY),
            ("store", store_janitor.round, TIDY_EVERY),
            ("health", self._look_after_health, min(ROUND, ledger.lease / 8)),
        )
        self._threads = [
            threading.Thread(target=self._repeat, args=(work, seconds), name=name, daemon=True)
            for name, work, seconds in tasks
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the threads, without waiting for a folder or a store that hangs."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(PARTING)

    def _live(self) -> None:
        self._let_go_of_what_hangs()
        self._leases.renew()
        self._beat()

    def _let_go_of_what_hangs(self) -> None:
        patience = HANGING * self._ledger.lease
        hanging = self._leases.hanging(patience)
        self._health.hang(f"the store has not answered for {patience:.0f} s" if hanging else None)
        for held in hanging:
            self._leases.give_back(held)

    def _beat(self) -> None:
        """Send the ledger a report, and do what it answers."""
        with self._beating:
            self._told = self._health.trouble
            info, loaded = self._current.info, self._current.loaded
            is_loading = loaded is None or loaded.served.model != info.model
            report = self._reporter.report(self._told or self._long_load(info, is_loading))
            heard = self._ledger.beat(
                info,
                replace(report, loading=is_loading, fetched=self._files.fetched, aside=self._switcher.aside),
            )
            self._health.obey(_ORDERS.get(heard.order))
            self._health.compare(done=report.done, outdone=heard.outdone, last_error=report.last_error)
        if heard.is_replaced and info.others:
            self._switcher.replaced(info.model)
        elif heard.is_replaced:
            self._end(f"{info.model} stands for another checkpoint now")
        elif heard.order is WorkerOrder.DRAIN and not len(self._leases):
            self._end(_ORDERS[WorkerOrder.DRAIN])

    def _end(self, reason: str) -> None:
        if not self._is_ending:  # a second signal would be one to end at once
            self._is_ending = True
            self._observe(Warned(text=f"this worker ends: {reason}"))
            os.kill(os.getpid(), signal.SIGTERM)

    def _look_after_health(self) -> None:
        self._health.round()
        self._log.say_ends()
        if self._health.trouble != self._told:  # nobody is to wait for the next beat to hear of it
            self._beat()

    def _long_load(self, info: WorkerInfo, is_loading: bool) -> str | None:
        """Why others should not count on a model that this worker has been loading for too long, or None."""
        if not is_loading:
            self._loading_since = None
            return None
        self._loading_since = self._loading_since or time.monotonic()
        seconds = time.monotonic() - self._loading_since
        return f"loading {info.model} has taken {seconds:.0f} s so far" if seconds > LONG_LOAD else None

    def _repeat(self, work: Callable[[], None], every: float) -> None:
        while not self._stopped.is_set():  # at once, too: who waits for this worker sees it when it is there
            pause = every
            try:
                work()
            except FarmError as error:
                self._observe(Warned(text=str(error)))
                pause = min(every, RETRY)
            except Exception as error:
                self._observe(Warned(text="the worker goes on after an error", error=error))
            self._stopped.wait(pause)
