"""Celery's worker and consumer, for messages that say only that there is work.

Whatever else a message contains (its task, arguments, callbacks, time to run) is not read, so that a hostile
or broken one can do no more than a good one.
"""

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import msgpack
from celery.apps.worker import Worker
from celery.concurrency.thread import ApplyResult, TaskPool
from celery.worker import state
from celery.worker.consumer import Consumer
from kombu import Connection
from kombu.asynchronous import Hub
from kombu.message import Message

from img2img_shared.queue import TICKET

log = logging.getLogger(__name__)

#: seconds between two tries to reach the queue again; kombu's own grow to half a minute
RETRY = 1.0
#: what kombu raises, out of the event loop, at an envelope that is not one
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, LookupError, UnicodeError)
NO_ARGUMENTS = msgpack.packb([[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])


class TicketWorker(Worker):  # type: ignore[misc]  # celery ships no types
    """A worker that leaves signals, and everything else Celery does to a process, to us."""

    #: called when its consumer is connected, and whenever it is again
    told: Callable[["TicketConsumer"], None] | None = None

    def on_consumer_ready(self, consumer: "TicketConsumer") -> None:
        """Call `on_ready`."""
        if self.told is not None:
            self.told(consumer)

    def install_platform_tweaks(self, worker: object) -> None:
        """Do nothing: Celery's Ctrl-C is a cold shutdown, which a pool of threads does not implement."""


class TicketPool(TaskPool):  # type: ignore[misc]  # celery ships no types
    """Threads for tickets, each of which wakes the event loop when it is free.

    While all are busy, the loop asks Redis for no ticket, and would sleep on for up to a second.
    """

    def register_with_event_loop(self, hub: Hub) -> None:
        """Note the event loop."""
        self._hub = hub

    def on_apply(self, *args: Any, **kwargs: Any) -> ApplyResult:
        """As Celery's."""
        result = super().on_apply(*args, **kwargs)
        result.f.add_done_callback(lambda _: self._hub.call_soon(_nothing))
        return result


class TicketConsumer(Consumer):  # type: ignore[misc]  # celery ships no types
    """A consumer that takes every message for a ticket, and survives one that cannot be read at all."""

    #: Celery's event loop
    loop: Callable[..., None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loop = self._outliving(self.loop)
        self._lost_at = 0.0

    def ensure_connected(self, conn: Connection) -> Connection:
        """As Celery's, but after an outage, or a change of the primary, it reconnects soon."""
        soon = {"interval_start": RETRY, "interval_step": 0, "interval_max": RETRY}
        conn.ensure_connection = partial(conn.ensure_connection, **soon)
        return super().ensure_connected(conn)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """As Celery's, but in one line, with a pause if Redis accepts connections and refuses all else."""
        log.warning("the queue: %s; trying again", str(exc) or type(exc).__name__)
        with suppress(Exception):
            self.connection.collect()
        now = time.monotonic()
        if now - self._lost_at < RETRY:
            time.sleep(RETRY)
        self._lost_at = now

    def follow(self, queue: str) -> None:
        """From now on, take only messages of that queue. To be called in the event loop's thread."""
        queues, taken = self.app.amqp.queues, self.task_consumer
        before = [each for each in queues.consume_from if each != queue]
        wanted = queues.select_add(queues[queue]) if queue in queues else queues.select_add(queue)
        for each in before:
            queues.deselect(each)
        if taken is None:  # Redis is away; it begins with what is selected
            return
        for each in before:
            taken.cancel_by_queue(each)
        if not taken.consuming_from(queue):
            taken.add_queue(wanted)
            taken.consume()

    def create_task_handler(self, *_: Any, **__: Any) -> Callable[[Message], None]:
        """A handler that has Celery run a fresh, empty ticket for any message whatsoever."""
        run = self.strategies[TICKET]

        def on_message(message: Message) -> None:
            message.ack_log_error(log, self.connection_errors)
            ticket_id = str(uuid.uuid4())
            ticket = Message(
                body=NO_ARGUMENTS,
                channel=message.channel,
                delivery_tag=message.delivery_tag,
                content_type="application/x-msgpack",
                content_encoding="binary",
                headers={"task": TICKET, "id": ticket_id, "root_id": ticket_id, "lang": "py"},
                properties={"correlation_id": ticket_id},
                delivery_info={},
                accept={"application/x-msgpack"},
            )
            try:
                run(ticket, None, _nothing, _nothing, ())
            except (MemoryError, RuntimeError) as error:  # no thread can be started: those that run go on
                if ticket_id in state.requests:
                    state.task_ready(state.requests[ticket_id])
                log.warning("a ticket was dropped: %s", str(error) or type(error).__name__)

        return on_message

    def _outliving(self, loop: Callable[..., None]) -> Callable[..., None]:
        """`loop`, but an unreadable message drops the queue's tickets and reconnects; Celery would end.

        Tickets cost nothing: the janitor tops them up within a second.
        """

        def guarded(*args: Any) -> None:
            try:
                loop(*args)
            except self.connection_errors:
                raise
            except UNREADABLE as error:
                dropped = self.task_consumer.purge()
                what = f"{type(error).__name__}: {error!s:.80}"
                log.warning("dropped a message that is none (%r) and %d tickets", what, dropped)
                raise ConnectionResetError("reconnecting after an unreadable message") from None

        return guarded


def _nothing(*_: Any, **__: Any) -> None:
    """Acknowledge nothing: a ticket is gone from the queue once it is received."""
