"""Tickets that are lost, doubled and foreign; messages that are none."""

import base64
import json
import pickle
from typing import Any

import msgpack
import pytest

from img2img_shared.ledger.keys import queue_key, queue_name
from img2img_shared.queue import celery_app
from tests.eventually import eventually
from tests.faults.conftest import Account
from tests.faults.farm import FaultyFarm, Worker


def queue_of(farm: FaultyFarm) -> str:
    """The list in Redis that holds the tickets of the farm's model."""
    return queue_key(farm.settings.prefix, farm.model)


def frozen_worker(farm: FaultyFarm) -> Worker:
    """There are tickets only where somebody serves the model; a frozen worker takes one of them at most."""
    worker = farm.worker()
    eventually("it serves the model", farm.producer.workers)
    worker.signal("STOP")
    eventually("it is frozen", lambda: worker.stopped)
    return worker


def test_lost_tickets_cost_a_second(farm: FaultyFarm, account: Account) -> None:
    worker = frozen_worker(farm)
    job = farm.submit(6)
    with farm.server.client() as client:
        assert client.delete(queue_of(farm)) == 1
    account.fault()
    worker.signal("CONT")
    account.settle(farm, "the queue deleted", job)


def test_tickets_doubled_tenfold_render_nothing_twice(farm: FaultyFarm, account: Account) -> None:
    worker = frozen_worker(farm)
    job = farm.submit(6)
    with farm.server.client() as client:
        tickets = client.lrange(queue_of(farm), 0, -1)
        for _ in range(9):
            client.lpush(queue_of(farm), *tickets)
    account.fault()
    worker.signal("CONT")
    farm.worker()
    account.settle(farm, "tickets doubled tenfold", job)
    assert farm.attempts(job) == [1] * 6


def in_base64(data: bytes) -> str:
    """As kombu carries bytes in JSON."""
    return base64.b64encode(data).decode()


def envelope(**changes: Any) -> bytes:
    """What kombu writes for a task, with some of it replaced."""
    body = in_base64(msgpack.packb([[], {}, {}]))
    properties = {
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": "x"},
        "delivery_tag": "1",
        "correlation_id": "1",
        "delivery_mode": 2,
        "priority": 0,
    }
    message = {
        "body": body,
        "content-encoding": "binary",
        "content-type": "application/x-msgpack",
        "headers": {"task": "img2img.ticket", "id": "1", "lang": "py"},
        "properties": properties,
    }
    properties.update(changes.pop("properties", None) or {})
    return json.dumps({**message, **changes}).encode()


class Bomb:
    """Unpickling it would leave a file behind."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (self._path, "w")


HOSTILE: dict[str, bytes] = {
    "not JSON": b"\x00\xff\x13 rubbish",
    "JSON null": b"null",
    "a JSON list": b"[1, 2, 3]",
    "no properties": envelope(properties={"x": 1}).replace(b'"properties"', b'"no-properties"'),
    "properties null": json.dumps({"body": "", "properties": None, "headers": {}}).encode(),
    "an unknown body encoding": envelope(properties={"body_encoding": "rot13"}),
    "a body that is not base64": envelope(body="%%%"),
    "a list as task name": envelope(headers={"task": ["img2img.ticket"], "id": "1"}),
    "headers null": envelope(headers=None),
    "no headers": envelope(headers={}),
    "a foreign task": envelope(headers={"task": "os.system", "id": "1"}),
    "a time to run in the year 9999": envelope(
        headers={"task": "img2img.ticket", "id": "1", "eta": "9999-01-01T00:00:00"}
    ),
    "callbacks": envelope(
        body=base64.b64encode(json.dumps([[], {}, {"callbacks": [{"task": "x"}]}]).encode()).decode()
    ),
    "another version's protocol": envelope(
        headers={"task": "img2img.ticket", "id": "1", "root_id": {}, "v": 99}
    ),
    "ten megabytes": envelope(body=base64.b64encode(b"x" * 10_000_000).decode()),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_message_costs_a_log_line(farm: FaultyFarm, account: Account, kind: str) -> None:
    worker = farm.worker()
    eventually("it serves", lambda: farm.producer.workers())
    with farm.server.client() as client:
        for _ in range(3):
            client.lpush(queue_of(farm), HOSTILE[kind])
    account.fault()
    job = farm.submit(4)
    account.settle(farm, f"a message: {kind}", job)
    assert worker.alive


def test_a_pickle_is_not_opened(farm: FaultyFarm, account: Account) -> None:
    trace = farm.folder / "pickled"
    body = in_base64(pickle.dumps(Bomb(str(trace))))
    worker = farm.worker()
    eventually("it serves", lambda: farm.producer.workers())
    with farm.server.client() as client:
        message = envelope(body=body, **{"content-type": "application/x-python-serialize"})
        client.lpush(queue_of(farm), message)
    account.fault()
    job = farm.submit(4)
    account.settle(farm, "a message: a pickle", job)
    assert worker.alive
    assert not trace.exists()


def test_a_flood_of_rubbish_does_not_stop_a_job(farm: FaultyFarm, account: Account) -> None:
    worker = farm.worker()
    eventually("it serves", lambda: farm.producer.workers())
    rubbish = [message for message in HOSTILE.values() if len(message) < 10_000]
    with farm.server.client() as client:
        for _ in range(200):
            client.lpush(queue_of(farm), *rubbish)
    account.fault()
    job = farm.submit(6)
    account.settle(farm, "2,800 hostile messages at once", job)
    assert worker.alive


def test_a_task_sent_by_celery_itself_is_a_ticket_like_any_other(farm: FaultyFarm, account: Account) -> None:
    farm.worker()
    app = celery_app(farm.server.url, farm.settings.prefix)
    app.send_task(
        "img2img.ticket", args=["rm -rf /"], kwargs={"a": 1}, queue=queue_name(farm.model), countdown=3600
    )
    account.fault()
    job = farm.submit(3)
    account.settle(farm, "a ticket with arguments, an hour ahead", job)
