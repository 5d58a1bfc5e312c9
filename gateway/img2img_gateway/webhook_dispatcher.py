"""Delivers webhooks: one elected gateway watches the jobs that have one, and Celery's threads deliver.

As with tickets, Redis keeps the deliveries, and a Celery message only says that there is one. A message that
is lost or doubled costs a repeat at most, which the receiver recognises by its ``webhook-id``.
"""

import asyncio
import logging
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

from celery import Celery, bootsteps
from celery.exceptions import WorkerShutdown
from kombu.asynchronous import Hub

from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.fault_log import RoundLog
from img2img_gateway.watch import ends
from img2img_gateway.webhook_deliveries import AT_ONCE
from img2img_gateway.webhook_store import Hook, WebhookStore
from img2img_shared.errors import FarmError, NotFound
from img2img_shared.job import ImageState
from img2img_shared.ledger.connect import answering
from img2img_shared.ledger.event_tail import read_events
from img2img_shared.ledger.tables import Election
from img2img_shared.queue import celery_app
from img2img_shared.records import Event, ImageStatus

log = logging.getLogger(__name__)

#: name of the task, and of its queue
TASK = "img2img.webhook"
QUEUE = "img2img.webhooks"
#: seconds between two looks at the jobs, and between two rounds while deliveries are due
ROUND, QUICK = 0.5, 0.05
#: seconds after which another gateway is elected in place of one that died
TERM = 5
#: seconds for which the worker waits for a message before it looks whether it must stop
WAIT = 0.1
#: jobs that one call of Redis looks at, and events of each that it gives
TOGETHER, EVENTS = 200, 100
#: seconds after which a hook is dropped if its job was never written, or is forgotten
ORPHAN = 60


class WebhookDispatcher:
    """One gateway's part in delivering the farm's webhooks."""

    def __init__(self, farm: AsyncFarm, hooks: WebhookStore) -> None:
        self._farm = farm
        self._hooks = hooks
        self._name = secrets.token_hex(8)
        self._election = Election(farm.redis, "dispatcher", self._name, TERM)
        self._app = celery_app(farm.redis_url, farm.settings.prefix)
        # not shared: two gateways of one process each have their own
        self._app.task(name=TASK, shared=False)(self._take)
        self._deliveries = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="delivery")
        self._worker = _worker(self._app, self._name)
        #: held during a round; no round begins once it is closed
        self._turn, self._is_closed = threading.Lock(), False
        #: when the jobs were last looked at, and hooks without a job last looked for
        self._looked, self._swept = -ROUND, time.monotonic()
        self._thread = threading.Thread(target=self._work, name="webhooks", daemon=True)

    async def run(self) -> None:
        """Run until cancelled."""
        self._thread.start()
        rounds = RoundLog("webhooks")
        while True:
            is_busy = False
            try:
                is_busy = await self._farm.call(self.round)
            except FarmError as error:
                rounds.waits(error)
            else:
                rounds.goes_on()
            await asyncio.sleep(QUICK if is_busy else ROUND)

    def close(self) -> None:
        """Take no more deliveries."""
        # by its own thread: what it reads from must not be closed under it
        self._worker.hub.call_soon(_stop)
        with self._turn:  # a cancelled round goes on in its thread, and would connect anew
            self._is_closed = True
            with suppress(FarmError):  # another gateway is elected in TERM seconds, then
                self._election.resign()
        if self._thread.ident is not None:
            self._thread.join(TERM)
        self._deliveries.shutdown(cancel_futures=True)
        self._app.close()

    def round(self) -> bool:
        """If this gateway is elected, make deliveries of new events, and have those that are due tried.

        Returns:
            whether any was due, and more may be as soon as these are delivered.
        """
        with self._turn:
            if self._is_closed or not self._election.is_won():
                return False
            if time.monotonic() >= self._looked + ROUND:
                self._look()
                self._looked = time.monotonic()
            due = self._hooks.deliveries.due()
            for delivery_id in due:
                with answering():
                    self._app.send_task(TASK, args=[delivery_id], queue=QUEUE, ignore_result=True)
            return bool(due)

    def _take(self, delivery_id: str) -> None:
        """Celery's task: have a thread deliver, so that the next message is read at once."""
        self._deliveries.submit(self._deliver, delivery_id)

    def _deliver(self, delivery_id: str) -> None:
        try:
            self._hooks.deliveries.deliver(delivery_id)
        except FarmError as error:
            log.warning("webhook %s waits: %s", delivery_id, error)

    def _look(self) -> None:
        """Create deliveries for the new events of every job with a hook, many jobs per call to Redis."""
        hooks = list(self._hooks.all().items())
        sweeps = time.monotonic() >= self._swept + ORPHAN
        self._swept = time.monotonic() if sweeps else self._swept
        for start in range(0, len(hooks), TOGETHER):
            if not self._election.is_won():  # a look may take longer than a term
                return
            part = dict(hooks[start : start + TOGETHER])
            after = {job_id: hook.after for job_id, hook in part.items()}
            news = read_events(self._farm.redis, after, EVENTS)
            for job_id, hook in part.items():
                if job_id in news or hook.missed is not None:
                    if not self._has_no_room(hook):
                        self._tell_all(job_id, hook, news.get(job_id, []))
                elif sweeps and time.time() - hook.created > ORPHAN and not self._is_there(job_id, hook):
                    self._hooks.remove(job_id)

    def _has_no_room(self, hook: Hook) -> bool:
        """Whether a job must wait; what happens meanwhile is told then, with events or without."""
        return "image" in hook.events and self._hooks.deliveries.are_full(hook.tenant, hook.url)

    def _is_there(self, job_id: str, hook: Hook) -> bool:
        try:
            self._farm.ledger.status(job_id, hook.tenant)
        except NotFound:
            return False
        return True

    def _tell_all(self, job_id: str, hook: Hook, events: list[Event]) -> None:
        """Tell of new events, and of some of the images whose events are gone; of the job's end last."""
        if events and _lacks_ends(hook, events[0]):
            hook = replace(hook, missed=hook.told, ended=_ended_before(events[0]))
        if hook.missed is not None and not self._hooks.deliveries.are_behind(hook.tenant, hook.url):
            hook = self._tell_missed(job_id, hook, hook.missed)
        if events and ends(events[-1]):
            if hook.missed is None:
                for each in events:
                    self._tell(job_id, hook, each)
                self._hooks.remove(job_id)
                return
            events = events[:-1]
        for each in events:
            self._tell(job_id, hook, each)
        self._hooks.keep(job_id, hook.after_event(events[-1]) if events else hook)

    def _tell_missed(self, job_id: str, hook: Hook, start: int) -> Hook:
        """Tell of `EVENTS` images from `start` on, if they have ended, as the ledger knows them.

        What was told of some of them before is a repeat, under the same id. All at once would hold up every
        other webhook of the farm for minutes.
        """
        try:
            images = self._farm.ledger.images(job_id, hook.tenant, start, EVENTS)
        except NotFound:
            images = []
        told = hook.told
        for image in images:
            if image.state in _ENDED:
                self._tell_image(job_id, hook, image, hook.after)
            if image.state is ImageState.DONE and image.index == told:  # a failed one may be retried
                told += 1
        return replace(hook, told=told, missed=start + EVENTS if len(images) == EVENTS else None)

    def _tell_image(self, job_id: str, hook: Hook, image: Event | ImageStatus, event_id: str) -> None:
        data = {"job": job_id, "index": image.index, "reason": image.reason}
        which = image.attempt or event_id  # what failed before it was begun has no attempt
        self._send(hook, f"{job_id}-{image.index}-{which}", f"image.{image.state}", data)

    def _tell(self, job_id: str, hook: Hook, event: Event) -> None:
        if event.index is not None and "image" in hook.events and event.state in _ENDED:
            self._tell_image(job_id, hook, event, event.id)
        if ends(event):
            kind = "failed" if event.failed or event.done < event.n else "done"
            if kind in hook.events:
                counts = {"n": event.n, "done": event.done, "failed": event.failed}
                state = str(event.job_state)
                facts = {"job": job_id, "state": state, **counts}
                self._send(hook, f"{job_id}-end", f"job.{kind}", facts)

    def _send(self, hook: Hook, delivery_id: str, kind: str, data: dict[str, Any]) -> None:
        self._hooks.deliveries.send(hook.tenant, hook.url, delivery_id, kind, data)

    def _work(self) -> None:
        self._app.set_current()  # of this thread
        self._worker.start()


class _OwnLoop(bootsteps.Step):  # type: ignore[misc]  # celery ships no types
    """An event loop per worker: Celery's is shared by the whole process, and ends with the first worker."""

    requires = ("celery.worker.components:Hub",)

    def create(self, parent: Any) -> None:
        """Install it before anything has used the other."""
        parent.hub = Hub(parent.timer)


def _worker(app: Celery, name: str) -> Any:
    """A Celery worker for one thread: without its signals, which are the server's.

    Its own pools of threads would look for the task in the process' default app, which is not ours.
    """
    app.conf.broker_transport_options["polling_interval"] = WAIT
    app.conf.worker_enable_remote_control = False
    app.steps["worker"].add(_OwnLoop)
    return app.WorkController(
        hostname=f"img2img-webhooks@{name}",
        pool="solo",
        queues=[QUEUE],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )


def _stop() -> None:
    """Stop as Celery's own workers do on a signal."""
    raise WorkerShutdown(0)


def _lacks_ends(hook: Hook, first: Event) -> bool:
    """Whether images ended between the last event that was looked at and `first`: a stream keeps about 1000.

    Nobody looks while all gateways are away.
    """
    if hook.ended is None or "image" not in hook.events:
        return False
    return _ended_before(first) > hook.ended


def _ended_before(event: Event) -> int:
    """The number of the job's images that had ended before this event."""
    return event.done + event.failed - (event.index is not None and event.state in _ENDED)


_ENDED = (ImageState.DONE, ImageState.FAILED)
