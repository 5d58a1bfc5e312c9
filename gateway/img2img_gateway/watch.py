"""Watches jobs for all who wait for them: their event streams are read together, once a tick."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.fault_log import RoundLog
from img2img_shared.errors import Unavailable
from img2img_shared.job import JobState
from img2img_shared.ledger.event_tail import EVENTS, EventTail
from img2img_shared.records import Event, JobStatus

#: seconds between two reads of the streams
TICK = 0.1
#: events of a job that are kept for those who lag, as the ledger does
KEPT = 1000
#: seconds after which a waiter looks for itself, should news have been lost
LOOK = 5.0
#: seconds for which Redis may be away before a waiter gives up
OUTAGE = 120.0


class Stream:
    """The events of a job since somebody began to watch it."""

    def __init__(self, last: str) -> None:
        #: id of the newest event
        self.last = last
        self.watchers = 0
        #: how many came in all
        self.total = 0
        self._recent: deque[Event] = deque(maxlen=KEPT)
        self._news = asyncio.Event()

    def add(self, events: list[Event]) -> None:
        """Add newer events, and wake those who wait."""
        self.last = events[-1].id
        self.total += len(events)
        self._recent.extend(events)
        self.wake()

    def wake(self) -> None:
        """Wake all who wait, to look for themselves."""
        self._news.set()
        self._news = asyncio.Event()

    def since(self, position: int) -> list[Event]:
        """The events after the first `position`, as far as they are kept."""
        count = min(self.total - position, len(self._recent))
        return [self._recent[i] for i in range(len(self._recent) - count, len(self._recent))]

    async def wait(self, position: int, timeout: float) -> None:
        """Wait for more than `position` events, for `wake`, or for `timeout` seconds."""
        if self.total > position:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._news.wait()
        except TimeoutError:
            return


class Watch:
    """All jobs that somebody watches, with a few connections of its own."""

    def __init__(self, farm: AsyncFarm) -> None:
        self._farm = farm
        self._streams: dict[str, Stream] = {}
        self._some = asyncio.Event()
        #: the gateway ends: who waits shall not any more
        self.stopping = False
        self._tail = EventTail(farm.redis_url, farm.settings.prefix)
        self.close = self._tail.close

    async def run(self) -> None:
        """Poll until cancelled; continues after an outage of Redis."""
        rounds = RoundLog("the events of jobs")
        while True:
            await self._some.wait()
            if self.stopping:
                for stream in self._streams.values():
                    stream.wake()
            try:
                more = await self._poll()
            except Unavailable as error:
                rounds.waits(error)
                more = False
                await asyncio.sleep(1.0)
            else:
                rounds.goes_on()
            if not more:
                await asyncio.sleep(TICK)

    @asynccontextmanager
    async def stream(self, job_id: str) -> AsyncIterator[Stream]:
        """A job's events from now on. The caller must have checked that it may see the job.

        Raises:
            Unavailable: Redis does not answer.
        """
        stream = self._streams.get(job_id)
        if stream is None:
            last = await self._tail.newest(job_id)
            stream = self._streams.setdefault(job_id, Stream(last))
        stream.watchers += 1
        self._some.set()
        try:
            yield stream
        finally:
            stream.watchers -= 1
            if not stream.watchers:
                self._streams.pop(job_id, None)
            if not self._streams:
                self._some.clear()

    async def finished(self, job_id: str, tenant: str) -> JobStatus:
        """A job's status once it has ended; occupies no thread meanwhile.

        Raises:
            NotFound: the tenant has no such job.
            Unavailable: Redis does not come back, or an embedded farm's worker does not start.
        """
        async with self.stream(job_id) as stream:
            away = 0.0
            while True:
                position = stream.total
                if self.stopping:
                    raise Unavailable("the gateway is being stopped")
                try:
                    status = await self._farm.call(self._farm.ledger.status, job_id, tenant)
                    away = 0.0
                except Unavailable:
                    if away >= OUTAGE:
                        raise
                    away += 1.0
                    await asyncio.sleep(1.0)
                    continue
                if status.finished is not None:
                    return status
                self._farm.check(status.model)
                await _until_it_may_have_ended(stream, position)

    async def _poll(self) -> bool:
        """Distribute new events; returns whether there are more at once."""
        found = await self._tail.read({job: each.last for job, each in self._streams.items()})
        for job, events in found.items():
            if job in self._streams:  # else the last of its watchers left meanwhile
                self._streams[job].add(events)
        return any(len(events) == EVENTS for events in found.values())


def ends(latest: Event) -> bool:
    """Whether nothing can follow this event of a job; that of its last image is followed by the job's own."""
    if latest.index is not None:
        return False
    if latest.job_state is JobState.CANCELLED:
        return latest.running == 0
    return latest.job_state in (JobState.DONE, JobState.FAILED)


async def _until_it_may_have_ended(stream: Stream, position: int) -> None:
    """Wait until an event says that the job ended, or for `LOOK` seconds without one."""
    while True:
        before = stream.total
        await stream.wait(position, LOOK)
        events = stream.since(position)
        position = stream.total
        if not events or ends(events[-1]) or stream.total == before:
            return
