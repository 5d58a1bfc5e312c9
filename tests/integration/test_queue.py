"""Tickets: Celery messages on a real Redis."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from celery import Celery
from celery.app.defaults import DEFAULTS
from kombu.exceptions import ContentDisallowed
from redis import Redis

from img2img_shared.errors import Unavailable
from img2img_shared.job import Job
from img2img_shared.ledger import FarmRedis, Ledger
from img2img_shared.ledger.connect import connect
from img2img_shared.ledger.keys import queue_key, queue_name
from img2img_shared.params import Params
from img2img_shared.queue import TICKET, TICKETS, celery_app, top_up
from img2img_shared.records import WorkerInfo
from tests.servers import RedisServer, raw_client

MODEL = "sd/1.5"
WORKER = WorkerInfo(id="w", model=MODEL, device="cpu", slots=1)


def a_job(name: str = "job-0000", n: int = 3, model: str = MODEL) -> Job:
    return Job(id=name, model=model, params=Params(seed=1, subseed=1), n_inputs=n)


@pytest.fixture
def ledger(farm_redis: FarmRedis) -> Ledger:
    """Of a farm with a worker for MODEL."""
    ledger = Ledger(farm_redis, lease=3600.0)
    ledger.beat(WORKER)
    return ledger


@pytest.fixture
def app(redis_url: str) -> Celery:
    return celery_app(redis_url)


def spend(app: Celery, model: str = MODEL, look: Callable[[], None] = lambda: None) -> Any:
    """The next ticket, taken with the settings of `app`, or None; `look` is called while it is in hand."""
    with app.connection_for_read() as connection:
        found: list[Any] = []

        def take(body: object, message: Any) -> None:
            found.append((body, message))
            look()
            message.ack()

        consumer = app.amqp.TaskConsumer(
            connection.default_channel,
            queues=[app.amqp.queues.new_missing(queue_name(model))],
            accept=app.conf.accept_content,
            callbacks=[take],
            on_decode_error=lambda _, error: found.append(error),
        )
        with consumer:
            try:
                connection.drain_events(timeout=1)
            except TimeoutError:
                return None
        return found[0]


def test_there_is_a_ticket_for_each_waiting_image(app: Celery, ledger: Ledger, redis: Redis) -> None:
    ledger.submit(a_job())
    ledger.submit(a_job("job-1111", 2))
    ledger.submit(a_job("job-2222", 7, model="another"))
    assert top_up(app, ledger, MODEL) == 5
    assert redis.llen(queue_key("img2img", MODEL)) == ledger.tickets(MODEL) == 5
    assert top_up(app, ledger, MODEL) == 0


def test_a_model_that_nobody_serves_has_no_tickets(app: Celery, ledger: Ledger, redis: Redis) -> None:
    ledger.submit(a_job(model="another"))
    assert top_up(app, ledger, "another") == 0
    ledger.beat(replace(WORKER, id="w2", model="another"))
    ledger.beat(replace(WORKER, id="w3", model="another"))
    assert top_up(app, ledger, "another") == 3
    ledger.leave("w2")
    top_up(app, ledger, "another")
    assert ledger.tickets("another") == 3
    ledger.leave("w3")
    top_up(app, ledger, "another")
    assert ledger.tickets("another") == 0
    assert ledger.served() == [MODEL]


def test_tickets_do_not_outlive_those_who_would_take_them(app: Celery, ledger: Ledger, redis: Redis) -> None:
    queue = queue_key("img2img", MODEL)
    ledger.submit(a_job())
    top_up(app, ledger, MODEL)
    assert 0 < redis.ttl(queue) <= 60
    redis.persist(queue)
    top_up(app, ledger, MODEL)
    assert 0 < redis.ttl(queue) <= 60


def test_the_queue_shrinks_to_what_waits(app: Celery, ledger: Ledger) -> None:
    for number in range(30):
        ledger.submit(a_job(f"job-00{number:02}", 1000))
    assert top_up(app, ledger, MODEL) == 1000
    for number in range(29):
        ledger.cancel(f"job-00{number:02}", "default")
    for n in range(990):
        assert ledger.claim(MODEL, "w", f"nonce-{n}", idle=False) is not None
    assert top_up(app, ledger, MODEL) == 0
    assert ledger.tickets(MODEL) == 10
    assert spend(app) is not None
    ledger.cancel("job-0029", "default")
    assert top_up(app, ledger, MODEL) == 0
    assert ledger.tickets(MODEL) == 0


def test_a_huge_job_has_1000_tickets(app: Celery, ledger: Ledger) -> None:
    ledger.submit(a_job(n=100_000))
    assert top_up(app, ledger, MODEL) == TICKETS == 1000
    assert top_up(app, ledger, MODEL) == 0


def test_tickets_are_published_together(app: Celery, ledger: Ledger, redis: Redis) -> None:
    ledger.submit(a_job(n=1000))
    before = redis.info("stats")["total_reads_processed"]
    assert top_up(app, ledger, MODEL) == 1000
    assert redis.info("stats")["total_reads_processed"] - before < 200


def test_what_is_not_given_out_has_no_tickets(app: Celery, ledger: Ledger) -> None:
    ledger.submit(a_job())
    ledger.submit(a_job("job-1111"))
    ledger.pause("job-0000", "default")
    ledger.cancel("job-1111", "default")
    assert top_up(app, ledger, MODEL) == 0


def test_spent_and_lost_tickets_are_replaced(app: Celery, ledger: Ledger, redis: Redis) -> None:
    ledger.submit(a_job())
    top_up(app, ledger, MODEL)
    assert spend(app) is not None
    assert top_up(app, ledger, MODEL) == 1
    redis.delete(queue_key("img2img", MODEL))
    assert top_up(app, ledger, MODEL) == 3


def test_a_ticket_says_nothing_but_that_there_is_work(app: Celery, ledger: Ledger) -> None:
    ledger.submit(a_job(n=1))
    top_up(app, ledger, MODEL)
    body, message = spend(app)
    assert message.headers["task"] == TICKET
    assert message.content_type == "application/x-msgpack"
    assert body[:2] == [[], {}]
    assert (message.headers["argsrepr"], message.headers["kwargsrepr"]) == ("", "")
    assert spend(app) is None


def test_only_msgpack_is_read(app: Celery) -> None:
    with app.producer_or_acquire() as producer:
        producer.publish({}, serializer="json", routing_key=queue_name(MODEL), exchange="")
    assert isinstance(spend(app), ContentDisallowed)


def test_kombus_tables_of_unacknowledged_messages_stay_out_of_play(
    app: Celery, ledger: Ledger, redis: Redis
) -> None:
    ledger.submit(a_job())
    top_up(app, ledger, MODEL)
    unacknowledged: list[bytes] = []

    def look() -> None:
        unacknowledged.extend(key for key in redis.scan_iter() if b"unacked" in key)

    assert spend(app, look=look) is not None
    assert unacknowledged == []


def test_farms_share_a_redis_but_no_queue(redis_url: str, app: Celery, ledger: Ledger) -> None:
    ledger.submit(a_job())
    top_up(app, ledger, MODEL)
    other = celery_app(redis_url, prefix="other")
    assert spend(other) is None
    with connect(redis_url, "other") as other_redis:
        assert top_up(other, Ledger(other_redis), MODEL) == 0
    assert ledger.tickets(MODEL) == 3


def test_no_key_of_the_queue_lies_outside_the_farms_prefix(app: Celery, ledger: Ledger, redis: Redis) -> None:
    ledger.submit(a_job())
    top_up(app, ledger, MODEL)
    spend(app)
    assert [key for key in redis.scan_iter() if not key.startswith((b"img2img:", b"{img2img}:"))] == []


def test_the_queue_outlives_a_restart_of_redis(mortal_redis: RedisServer) -> None:
    app, ledger = celery_app(mortal_redis.url), Ledger(connect(mortal_redis.url), lease=3600.0)
    ledger.beat(WORKER)
    ledger.submit(a_job())
    assert top_up(app, ledger, MODEL) == 3
    mortal_redis.kill()
    for _ in range(2):
        with pytest.raises(Unavailable, match="does not answer"):
            ledger.submit(a_job("job-1111"))
        with pytest.raises(Unavailable, match="does not answer"):
            top_up(app, ledger, MODEL)
    mortal_redis.start()
    ledger.beat(WORKER)
    ledger.submit(a_job())
    assert top_up(app, ledger, MODEL) == 3


@pytest.mark.parametrize("setting", ["maxmemory", "min-replicas-to-write"])
def test_a_redis_that_takes_no_writes_is_reported_as_such(mortal_redis: RedisServer, setting: str) -> None:
    ledger = Ledger(connect(mortal_redis.url))
    ledger.submit(a_job())
    with raw_client(mortal_redis.url) as client:
        client.config_set(setting, 1)
    with pytest.raises(Unavailable, match="takes no writes"):
        ledger.submit(a_job("job-1111"))


def test_every_setting_is_one_that_celery_knows(redis_url: str) -> None:
    app = celery_app(redis_url)
    assert set(app.conf.changes) - set(DEFAULTS) <= {"deprecated_settings"}  # its own
    assert app.conf.accept_content == ["msgpack"]
    assert app.conf.broker_connection_max_retries is None
    assert not app.conf.task_acks_late
    assert app.conf.worker_disable_prefetch
    assert app.conf.task_ignore_result
