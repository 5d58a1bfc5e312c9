"""Celery in a worker process: one task, the ticket, in a pool of threads."""

import logging
import warnings
from collections.abc import Callable

from celery import Celery, signals
from celery.exceptions import SecurityWarning

from img2img_shared.ledger.keys import queue_name
from img2img_shared.queue import TICKET, celery_app
from img2img_worker.farm.claim_loop import ClaimLoop
from img2img_worker.farm.consumer import TicketConsumer, TicketWorker

#: seconds a ticket goes on claiming before it returns to Celery, which makes hand-over cheap
TICKET_SECONDS = 5.0


def n_threads(slots: int) -> int:
    """One thread for each image: those in the batch, and half as many that are being prepared or stored."""
    return slots + max(2, slots // 2)


def ticket_app(redis_url: str, prefix: str, claim_loop: ClaimLoop, slots: int) -> Celery:
    """The Celery app, each of whose threads handles one image."""
    app = celery_app(redis_url, prefix)
    app.conf.update(
        worker_pool="img2img_worker.farm.consumer:TicketPool",
        worker_concurrency=n_threads(slots),
        worker_consumer="img2img_worker.farm.consumer:TicketConsumer",
        worker_redirect_stdouts=False,
    )

    @app.task(name=TICKET)  # type: ignore[untyped-decorator]  # celery ships no types
    def ticket() -> None:
        claim_loop.serve(TICKET_SECONDS)

    return app


class TicketTaker:
    """Takes tickets, of one model at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: str | None = None
        self._worker: TicketWorker | None = None

    def follow(self, model: str) -> None:
        """From now on, take only tickets of this model; thread-safe."""
        self._queue = queue_name(model)
        if self._worker is not None and (consumer := self._worker.consumer) is not None:
            consumer.call_soon(consumer.follow, self._queue)

    def run(self, app: Celery, on_ready: Callable[[], None]) -> int:
        """Take tickets until stopped; returns the exit status.

        Args:
            on_ready: called when it starts, and starts again after an outage of Redis.
        """
        signals.setup_logging.connect(_leave_logging_alone)
        # two lines a ticket, what our own log says better, and lines each second while Redis takes no writes
        # or is away
        for chatty in ("worker.strategy", "app.trace", "apps.worker", "worker.consumer.connection"):
            logging.getLogger(f"celery.{chatty}").setLevel(logging.WARNING)
        logging.getLogger("celery.worker.consumer.consumer").setLevel(logging.CRITICAL)
        # root: its tickets are no code, and hold nothing that is read
        warnings.filterwarnings("ignore", category=SecurityWarning)
        self._worker = TicketWorker(
            app=app,
            hostname=f"img2img@{self._name}",
            queues=[self._queue],
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            quiet=True,
        )

        def ready(consumer: TicketConsumer) -> None:
            if self._queue is not None:
                consumer.follow(self._queue)
            on_ready()

        self._worker.told = ready
        self._worker.start()
        return int(self._worker.exitcode or 0)


def _leave_logging_alone(**_: object) -> None:
    """Having a receiver for this signal keeps Celery from setting up logging of its own."""
