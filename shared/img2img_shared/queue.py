"""The farm's use of Celery, which delivers tickets; a ticket says only that there is work for a model.

The guarantees are the ledger's. A ticket that is lost or doubled costs nothing, so nothing here prevents
that.
"""

from celery import Celery, uuid

from img2img_shared.ledger import Ledger
from img2img_shared.ledger.connect import answering
from img2img_shared.ledger.keys import queue_name, queue_prefix
from img2img_shared.ledger.redis_url import CONNECT_TIMEOUT, read_redis_url

#: name of the one task there is
TICKET = "img2img.ticket"
#: most tickets of a model that lie in its queue
TICKETS = 1000


def celery_app(redis_url: str, prefix: str = "img2img") -> Celery:
    """The farm's Celery app, with the same settings for publishers and workers.

    No connection is made yet.

    Raises:
        Refused: the URL cannot be used.
    """
    address = read_redis_url(redis_url)
    # what logs say; the transport knows the rest, and Celery would draw conclusions from a scheme
    place = address.shown.partition("://")[2]
    app = Celery("img2img", broker=place, set_as_current=False)
    app.conf.update(
        # msgpack only, both ways: nothing here unpickles
        accept_content=["msgpack"],
        task_serializer="msgpack",
        event_serializer="msgpack",
        # state lies in the ledger
        task_ignore_result=True,
        # a ticket is spent when it is taken: the ledger gives its image to another one if need be
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # the ledger says what workers do; and whoever reaches Redis should not be able to stop them
        worker_enable_remote_control=False,
        # a worker outlives any outage of Redis, a full disk and missing replicas among them
        broker_channel_error_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=CONNECT_TIMEOUT,
        broker_transport="img2img_shared.ledger.ticket_transport:TicketTransport",
        broker_transport_options={
            "address": address,
            # kombu's tables of unacknowledged messages lose and double tickets under faults
            "ack_emulation": False,
            "global_keyprefix": queue_prefix(prefix),
            "health_check_interval": address.options.get("health_check_interval", 10),
        },
        task_publish_retry=False,
    )
    return app


def top_up(app: Celery, ledger: Ledger, model: str) -> int:
    """Publish tickets until the queue of `model` holds one for each waiting image, or 1000; returns how many.

    Publishes none while nobody serves the model: the janitor of the first worker will.

    Raises:
        Unavailable: Redis does not answer.
    """
    missing = ledger.missing_tickets(model, TICKETS)
    if not missing:
        return 0
    # one message, as many times as it is wanted: who takes a ticket gives it an id of its own
    ticket = app.amqp.create_task_message(uuid(), TICKET, ignore_result=True, argsrepr="", kwargsrepr="")
    with answering(), app.producer_or_acquire() as producer, producer.batch():
        for _ in range(missing):
            producer.publish(
                ticket.body,
                routing_key=queue_name(model),
                serializer="msgpack",
                headers=ticket.headers,
                **ticket.properties,
            )
    ledger.keep_tickets(model)
    return missing
