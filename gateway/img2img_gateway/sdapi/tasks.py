"""The synchronous renders under way, in Redis, so that any gateway of the farm can show and stop them."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from img2img_gateway.async_farm import AsyncFarm
from img2img_shared.errors import NotFound
from img2img_shared.job import JobState
from img2img_shared.ledger.tables import Table
from img2img_shared.records import JobStatus, known_fields

#: seconds after which a task is forgotten whose gateway died
FORGOTTEN = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class Task:
    """One synchronous render: a job for each of its iterations, as A1111 counts jobs."""

    id: str
    #: "img2img" or "txt2img"
    kind: str
    jobs: tuple[str, ...]
    #: sampling steps of each image
    steps: int
    #: seconds since 1970
    begun: float


@dataclass(frozen=True, kw_only=True)
class TaskStatus:
    """The progress of a task."""

    task: Task
    statuses: Sequence[JobStatus]

    @property
    def n(self) -> int:
        return sum(status.n for status in self.statuses)

    @property
    def ended(self) -> int:
        """The number of images that have ended."""
        return sum(status.done + status.failed + status.cancelled for status in self.statuses)

    @property
    def is_over(self) -> bool:
        return all(status.finished is not None for status in self.statuses)

    @property
    def is_begun(self) -> bool:
        return any(status.started is not None for status in self.statuses)

    @property
    def unfinished(self) -> dict[str, JobStatus]:
        """Iterations that have not ended, by their jobs."""
        return {each.id: each for each in self.statuses if each.finished is None}

    @property
    def left(self) -> list[JobStatus]:
        """Iterations that have neither ended nor are about to."""
        return [each for each in self.unfinished.values() if each.state is not JobState.CANCELLED]

    @property
    def now(self) -> JobStatus | None:
        """The iteration that is rendering, or else the next one, or None."""
        left = self.left
        return next((each for each in left if each.running), left[0] if left else None)

    @property
    def job(self) -> str:
        """A1111's name for what is under way."""
        if len(self.statuses) == 1:
            return f"scripts_{self.task.kind}"
        return f"Batch {min(self.jobs_ended + 1, len(self.statuses))} out of {len(self.statuses)}"

    @property
    def jobs_ended(self) -> int:
        return sum(status.finished is not None for status in self.statuses)


@dataclass(frozen=True, kw_only=True)
class LastTask:
    """What A1111 would still show of the last task if it had ended."""

    #: seconds since 1970; None: there was none
    begun: float | None = None
    steps: int = 0
    #: iterations that gave pictures, once it has ended
    job_no: int = 0
    interrupted: bool = False
    #: the job of the iteration that is to be left as it is
    skipped: str | None = None


class Tasks:
    """The tasks of one tenant."""

    def __init__(self, farm: AsyncFarm, tenant: str, owner: str = "") -> None:
        self._farm = farm
        self._tenant = tenant
        #: who interrupts them
        self._owner = owner
        self._tasks = Table(farm.redis, "tasks", tenant)
        self._last = Table(farm.redis, "last-task", tenant)

    async def begin(self, task: Task) -> None:
        """Record a task whose jobs are written."""
        await self._farm.call(self._write, task)

    async def end(self, task: Task) -> None:
        """Remove a task: its answer was delivered, or nobody waits for it."""
        await self._farm.call(self._remove, task)

    async def under_way(self) -> list[TaskStatus]:
        """The tasks that have not ended, oldest first."""
        return await self._farm.call(self._read)

    async def interrupt(self) -> None:
        """End the iterations that are rendering, with their images as they are, and drop the later ones.

        If none has begun, the next one is dropped. A1111 renders one iteration after the other, so of several
        that render here at once, the first is meant.
        """
        standings = [each for each in await self.under_way() if each.left]
        for standing in [each for each in standings if each.is_begun] or standings[:1]:
            for job in standing.left:
                ledger, is_now = self._farm.ledger, job is standing.now
                stop = ledger.interrupt if is_now else ledger.cancel
                await self._farm.call(stop, job.id, self._tenant, self._owner)
        if standings:
            await self._farm.call(self._last.put, {"interrupted": True})

    async def last(self) -> LastTask:
        """The task that was begun last."""
        found = await self._farm.call(self._last.all)
        with self._last.reading():
            return LastTask(**known_fields(LastTask, found))

    async def skip(self) -> None:
        """End the oldest task's current iteration with its images as they are; the next ones continue."""
        for standing in await self.under_way():
            if now := standing.now:
                await self._farm.call(self._farm.ledger.interrupt, now.id, self._tenant, self._owner)
                await self._farm.call(self._last.put, {"skipped": now.id})
                return

    def _write(self, task: Task) -> None:
        self._tasks.put({task.id: asdict(task)})
        self._tasks.expire(FORGOTTEN)
        self._last.put(asdict(LastTask(begun=task.begun, steps=task.steps)))
        self._last.expire(FORGOTTEN)

    def _remove(self, task: Task) -> None:
        self._tasks.remove(task.id)
        with suppress(NotFound):
            done = [self._farm.ledger.status(job, self._tenant).done for job in task.jobs]
            self._last.put({"job_no": sum(number > 0 for number in done)})

    def _read(self) -> list[TaskStatus]:
        kept = self._tasks.all().values()
        with self._tasks.reading():
            tasks = [Task(**{**known_fields(Task, facts), "jobs": tuple(facts["jobs"])}) for facts in kept]
        found = []
        for task in sorted(tasks, key=lambda task: task.begun):
            try:
                statuses = [self._farm.ledger.status(job, self._tenant) for job in task.jobs]
            except NotFound:
                self._tasks.remove(task.id)
                continue
            if time.time() - task.begun > FORGOTTEN:
                self._tasks.remove(task.id)
            else:
                found.append(TaskStatus(task=task, statuses=statuses))
        return found
