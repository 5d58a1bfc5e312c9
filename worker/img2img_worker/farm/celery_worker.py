"""Celery's side of a worker process: one task, the ticket, in a pool of threads."""

import logging
import warnings

from celery import Celery, signals
from celery.exceptions import SecurityWarning

from img2img_shared.queue import TICKET, celery_app
from img2img_worker.farm.claim_loop import ClaimLoop
from img2img_worker.farm.consumer import TicketWorker

#: seconds a ticket goes on claiming before it returns to Celery, which makes hand-over cheap
TICKET_SECONDS = 5.0


def n_threads(slots: int) -> int:
    """One for each image: those in the batch, and half as many that are being prepared or stored."""
    return slots + max(2, slots // 2)


def ticket_app(redis_url: str, prefix: str, claim_loop: ClaimLoop, slots: int) -> Celery:
    """Celery's application. Its threads carry one image each."""
    app = celery_app(redis_url, prefix)
    app.conf.update(
        worker_pool="threads",
        worker_concurrency=n_threads(slots),
        worker_consumer="img2img_worker.farm.consumer:TicketConsumer",
        worker_redirect_stdouts=False,
    )

    @app.task(name=TICKET)  # type: ignore[untyped-decorator]  # celery ships no types
    def ticket() -> None:
        claim_loop.serve(TICKET_SECONDS)

    return app


def take_tickets(app: Celery, name: str, queue: str) -> int:
    """Take tickets until stopped; gives the exit status."""
    signals.setup_logging.connect(_leave_logging_alone)
    # two lines a ticket, what our own log says better, and a line a second while Redis is away
    for chatty in ("celery.worker.strategy", "celery.app.trace", "celery.apps.worker"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("celery.worker.consumer.consumer").setLevel(logging.CRITICAL)
    # root: its tickets are no code, and hold nothing that is read
    warnings.filterwarnings("ignore", category=SecurityWarning)
    worker = TicketWorker(
        app=app,
        hostname=f"img2img@{name}",
        queues=[queue],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _leave_logging_alone(**_: object) -> None:
    """A receiver of this signal keeps Celery from setting up logging of its own."""
