"""The threads for tickets wake the event loop, which asks for no ticket while they are all busy."""

import threading
from typing import Any, cast

from celery.concurrency import get_implementation
from kombu.asynchronous import Hub

from img2img_worker.farm.celery_worker import ticket_app
from img2img_worker.farm.claim_loop import ClaimLoop
from img2img_worker.farm.consumer import TicketPool
from tests.eventually import eventually


class RecordingHub:
    """An event loop that notes that it was woken."""

    def __init__(self, happened: list[str]) -> None:
        self._happened = happened

    def call_soon(self, _: Any) -> None:
        self._happened.append("the loop was woken")


def test_the_loop_is_woken_after_a_ticket_is_no_longer_counted() -> None:
    happened: list[str] = []
    ended = threading.Event()
    pool = TicketPool(limit=1)
    pool.register_with_event_loop(cast(Hub, RecordingHub(happened)))
    try:
        pool.on_apply(ended.wait, (60,), callback=lambda _: happened.append("the ticket is counted as done"))
        assert happened == []
        ended.set()
        eventually("the loop is woken", lambda: len(happened) == 2)
        assert happened == ["the ticket is counted as done", "the loop was woken"]
    finally:
        ended.set()
        pool.on_stop()


def test_workers_have_such_threads() -> None:
    app = ticket_app("redis://localhost", "img2img", cast(ClaimLoop, None), slots=4)
    assert get_implementation(app.conf.worker_pool) is TicketPool
    assert app.conf.worker_concurrency == 6
