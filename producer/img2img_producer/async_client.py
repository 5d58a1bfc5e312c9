"""The farm for programs that run in asyncio."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, ParamSpec, Self, TypeVar

from img2img_producer.client import Farm
from img2img_producer.inputs import Picture, Source
from img2img_producer.results import Result
from img2img_shared.job import Job, JobState
from img2img_shared.params import Params
from img2img_shared.records import ImageStatus, JobStatus, WorkerStatus
from img2img_shared.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


class AsyncFarm:
    """A `Farm` whose calls go to threads, so that nothing waits for them but who asked.

    >>> async def paint() -> None:
    ...     async with AsyncFarm("https://farm.example", key="i2i_...") as farm:
    ...         job = await farm.submit("cat.png", prompt="an oil painting")
    ...         async for result in farm.results(job):
    ...             result.save("out")

    Arguments, answers and errors are `Farm`'s. A submit that is cancelled goes on in its thread: give it an
    idempotency key, and ask again with that.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        store_url: str | Path | None = None,
        tenant: str | None = None,
        settings: Settings | None = None,
        *,
        key: str | None = None,
    ) -> None:
        self._open = partial(Farm, redis_url, store_url, tenant, settings, key=key)
        self._farm: Farm | None = None

    async def __aenter__(self) -> Self:
        self._farm = await asyncio.to_thread(self._open)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.farm.close)

    @property
    def farm(self) -> Farm:
        """What does the work: for what is not here, to be called in a thread.

        Raises:
            RuntimeError: outside of ``async with``.
        """
        if self._farm is None:
            raise RuntimeError("use it in `async with AsyncFarm(...) as farm:`")
        return self._farm

    async def submit(
        self,
        inputs: Iterable[Picture | Source | tuple[Source, Source] | Mapping[str, Any]] | Picture | Source,
        *,
        model: str | None = None,
        params: Params | Mapping[str, Any] | None = None,
        mask: Source | None = None,
        pictures: Mapping[str, Source] | None = None,
        name: str | None = None,
        tags: Collection[str] = (),
        keep: str | float | None = None,
        priority: int = 0,
        idempotency_key: str | None = None,
        progress: Callable[[int], None] | None = None,
        **parameters: Any,
    ) -> str:
        """As `Farm.submit`; `inputs` is read, and `progress` called, in another thread."""
        return await asyncio.to_thread(
            self.farm.submit,
            inputs,
            model=model,
            params=params,
            mask=mask,
            pictures=pictures,
            name=name,
            tags=tags,
            keep=keep,
            priority=priority,
            idempotency_key=idempotency_key,
            progress=progress,
            **parameters,
        )

    async def status(self, job_id: str) -> JobStatus:
        """As `Farm.status`."""
        return await asyncio.to_thread(self.farm.status, job_id)

    def watch(self, job_id: str) -> AsyncIterator[JobStatus]:
        """As `Farm.watch`."""
        return _each(lambda _: self.farm.watch(job_id))

    def results(self, job_id: str, *, wait: bool = True) -> AsyncIterator[Result]:
        """As `Farm.results`."""
        return _each(lambda tick: self.farm.results(job_id, wait=wait, progress=tick))

    def images(self, job_id: str) -> AsyncIterator[ImageStatus]:
        """As `Farm.images`."""
        return _each(lambda _: self.farm.images(job_id))

    async def preview(self, job_id: str, index: int = 0) -> bytes | None:
        """As `Farm.preview`."""
        return await asyncio.to_thread(self.farm.preview, job_id, index)

    async def job(self, job_id: str) -> Job:
        """As `Farm.job`."""
        return await asyncio.to_thread(self.farm.job, job_id)

    async def cancel(self, job_id: str) -> int:
        """As `Farm.cancel`."""
        return await asyncio.to_thread(self.farm.cancel, job_id)

    async def pause(self, job_id: str) -> bool:
        """As `Farm.pause`."""
        return await asyncio.to_thread(self.farm.pause, job_id)

    async def resume(self, job_id: str) -> bool:
        """As `Farm.resume`."""
        return await asyncio.to_thread(self.farm.resume, job_id)

    async def retry(self, job_id: str) -> int:
        """As `Farm.retry`."""
        return await asyncio.to_thread(self.farm.retry, job_id)

    async def set_keep(self, job_id: str, keep: str | float | None) -> None:
        """As `Farm.set_keep`."""
        await asyncio.to_thread(self.farm.set_keep, job_id, keep)

    async def set_priority(self, job_id: str, priority: int) -> bool:
        """As `Farm.set_priority`."""
        return await asyncio.to_thread(self.farm.set_priority, job_id, priority)

    async def jobs(
        self,
        limit: int = 100,
        *,
        search: str | None = None,
        states: Collection[JobState] = (),
        model: str | None = None,
        owner: str | None = None,
        tags: Collection[str] = (),
    ) -> list[JobStatus]:
        """As `Farm.jobs`."""
        ask = partial(
            self.farm.jobs, limit, search=search, states=states, model=model, owner=owner, tags=tags
        )
        return await asyncio.to_thread(ask)

    async def remove(self, job_id: str) -> int:
        """As `Farm.remove`."""
        return await asyncio.to_thread(self.farm.remove, job_id)

    async def workers(self) -> list[WorkerStatus]:
        """As `Farm.workers`."""
        return await asyncio.to_thread(self.farm.workers)


class _Stopped(Exception):
    """Nobody takes the rest."""


async def _each(begin: Callable[[Callable[[object], None]], Iterator[T]]) -> AsyncIterator[T]:
    """What an iterator gives that waits for it in a thread.

    Args:
        begin: makes it; it calls what it is given now and then, so that it ends soon after nobody listens.
    """
    stopped = Event()

    def tick(_: object) -> None:
        if stopped.is_set():
            raise _Stopped

    end = object()
    iterator = await asyncio.to_thread(begin, tick)
    step: Callable[[], T | object] = partial(next, iterator, end)
    try:
        while (item := await asyncio.to_thread(step)) is not end:
            yield item  # type: ignore[misc]  # not the end
    finally:
        stopped.set()
