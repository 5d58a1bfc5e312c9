"""A job's events over HTTP."""

from queue import Empty, SimpleQueue
from threading import Event as Flag
from threading import Thread
from typing import Any

import httpx
from httpx_sse import ServerSentEvent, SSEError

from img2img_producer.backends.gateway_client import GatewayClient
from img2img_shared.errors import FarmError, Unavailable
from img2img_shared.farm.patience import OUTAGE, patiently
from img2img_shared.job import ImageState, JobState
from img2img_shared.records import Event

#: seconds after which a stream that ended is opened again
AGAIN = 1.0


class EventReader:
    """A `Feed` over server-sent events. A thread reads them, so that waiting can end; a stream that breaks is
    gone on with where it broke. `close` it.

    Raises:
        NotFound: the tenant has no such job.
        Unavailable: the farm stays away.
    """

    def __init__(self, client: GatewayClient, job_id: str) -> None:
        self._client = client
        self._path = f"/v1/jobs/{job_id}/events"
        self._news: SimpleQueue[list[Event] | FarmError] = SimpleQueue()
        self._closed = Flag()
        # the first message is what happened before now
        self._last = patiently(self._past, OUTAGE)
        Thread(target=self._run, name="events", daemon=True).start()

    def next(self, wait: float) -> list[Event]:
        """See `Feed`."""
        try:
            found = self._news.get(timeout=wait) if wait else self._news.get_nowait()
        except Empty:
            return []
        if isinstance(found, FarmError):
            raise found
        return found

    def all(self, wait: float) -> list[Event]:
        """See `Feed`."""
        found = more = self.next(wait)
        while more:
            more = self.next(0.0)
            found = found + more
        return found

    def close(self) -> None:
        """Have the thread end with the next sign of life of its stream, within a quarter of a minute."""
        self._closed.set()

    def _past(self) -> str | None:
        try:
            with self._client.events(self._path, None) as source:
                return next((message.id for message in source.iter_sse()), None)
        except (httpx.TransportError, SSEError) as error:
            raise Unavailable(f"{self._client.where} broke off the events ({error})") from error

    def _run(self) -> None:
        try:
            while not self._is_over():
                patiently(self._read, OUTAGE)
                self._closed.wait(AGAIN)
        except FarmError as error:
            self._news.put(error)

    def _read(self) -> None:
        """Read the stream to its end, or until it breaks."""
        if self._is_over():
            return
        try:
            with self._client.events(self._path, self._last) as source:
                for message in source.iter_sse():
                    if self._is_over():
                        return
                    self._last = message.id
                    self._news.put(_events(message))
        except (httpx.TransportError, httpx.StreamError, SSEError, RuntimeError) as error:
            if self._is_over():  # whose connection was closed with the farm
                return
            raise Unavailable(f"{self._client.where} broke off the events ({error})") from error

    def _is_over(self) -> bool:
        return self._closed.is_set() or self._client.is_closed


def _events(message: ServerSentEvent) -> list[Event]:
    """The events of one message. Its counters are those right after the last event."""
    update: dict[str, Any] = message.json()
    return [
        Event(
            id=message.id,
            state=(JobState if each["index"] is None else ImageState)(each["state"]),
            index=each["index"],
            attempt=each["attempt"],
            reason=each["reason"],
            job_state=JobState(update["state"]),
            n=update["n"],
            done=update["done"],
            failed=update["failed"],
            running=update["running"],
        )
        for each in update["events"]
    ]
