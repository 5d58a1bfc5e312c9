"""Changes to a tenant's jobs, for all who watch them: the ledger is asked once for all."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.fault_log import RoundLog
from img2img_shared.errors import Unavailable
from img2img_shared.records import JobChanges

#: seconds between two looks
PACE = 1.0
#: looks that are kept for those who lag
KEPT = 30


class Feed:
    """The changes of one tenant's jobs, while somebody watches."""

    def __init__(self, until: int) -> None:
        self.until = until
        self.watchers = 1
        self.looks: deque[JobChanges] = deque(maxlen=KEPT)
        self.task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    def add(self, look: JobChanges) -> None:
        """Add newer changes, and wake those who wait."""
        self.until = look.until
        self.looks.append(look)
        self._news.set()
        self._news = asyncio.Event()

    async def after(self, until: int) -> list[JobChanges]:
        """The changes later than `until`; waits for one."""
        if self.until <= until:
            await self._news.wait()
        return [look for look in self.looks if look.until > until]


class JobNews:
    """The feeds of all tenants whose jobs are watched."""

    def __init__(self, farm: AsyncFarm) -> None:
        self._farm = farm
        self._feeds: dict[str, Feed] = {}
        self._rounds = RoundLog("the changes of jobs")

    async def changes(self, tenant: str, after: int) -> AsyncGenerator[JobChanges, None]:
        """Changes from `after` on (0: from now on): first those already known, then new ones, each second.

        Raises:
            Unavailable: Redis does not answer.
        """
        while True:
            first = await self._farm.call(self._farm.ledger.changes, tenant, after)
            yield first
            after = first.until
            if not first.has_more:
                break
        async with self._feed(tenant, after) as feed:
            while True:
                looks = await feed.after(after)
                after = looks[-1].until
                yield _as_one(looks)

    @asynccontextmanager
    async def _feed(self, tenant: str, until: int) -> AsyncIterator[Feed]:
        feed = self._feeds.get(tenant)
        if feed is None:
            feed = self._feeds[tenant] = Feed(until)
            feed.task = asyncio.create_task(self._run(tenant, feed))
        else:
            feed.watchers += 1
        try:
            yield feed
        finally:
            feed.watchers -= 1
            if not feed.watchers:
                del self._feeds[tenant]
                if feed.task is not None:
                    feed.task.cancel()

    async def _run(self, tenant: str, feed: Feed) -> None:
        while True:
            await asyncio.sleep(PACE)
            try:
                feed.add(await self._farm.call(self._farm.ledger.changes, tenant, feed.until))
            except Unavailable as error:
                self._rounds.waits(error)
            else:
                self._rounds.goes_on()


def _as_one(looks: list[JobChanges]) -> JobChanges:
    """The changes as one, with each job as it was last seen."""
    if len(looks) == 1:
        return looks[0]
    jobs = {job.id: job for look in looks for job in look.jobs}
    gone = {job_id for look in looks for job_id in look.gone}
    return replace(
        looks[-1],
        is_whole=all(look.is_whole for look in looks),
        jobs=[job for job in jobs.values() if job.id not in gone],
        gone=sorted(gone),
    )
