"""The client for asyncio."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial, update_wrapper
from pathlib import Path
from threading import Event
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from img2img_producer.client import Farm
from img2img_producer.results import Result
from img2img_shared.records import ImageStatus, JobStatus
from img2img_shared.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


def _in_a_thread(
    method: Callable[Concatenate[Farm, P], T],
) -> Callable[Concatenate["AsyncFarm", P], Coroutine[Any, Any, T]]:
    """The corresponding method of an `AsyncFarm`, with the same arguments, result and errors."""

    async def call(self: "AsyncFarm", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(method, self.farm, *args, **kwargs)

    update_wrapper(call, method)
    return call


class AsyncFarm:
    """A `Farm` whose calls run in threads, so that they do not block the event loop.

    >>> async def paint() -> None:
    ...     async with AsyncFarm("https://farm.example", key="i2i_...") as farm:
    ...         job = await farm.submit("cat.png", prompt="an oil painting")
    ...         async for result in farm.results(job):
    ...             result.save("out")

    Arguments, results and errors are `Farm`'s. A cancelled submit continues in its thread: give it an
    idempotency key, and repeat it with that.
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
        """The underlying client, for anything that is missing here; call it in a thread.

        Raises:
            RuntimeError: outside of ``async with``.
        """
        if self._farm is None:
            raise RuntimeError("use it in `async with AsyncFarm(...) as farm:`")
        return self._farm

    submit = _in_a_thread(Farm.submit)
    status = _in_a_thread(Farm.status)
    preview = _in_a_thread(Farm.preview)
    job = _in_a_thread(Farm.job)
    cancel = _in_a_thread(Farm.cancel)
    pause = _in_a_thread(Farm.pause)
    resume = _in_a_thread(Farm.resume)
    retry = _in_a_thread(Farm.retry)
    set_keep = _in_a_thread(Farm.set_keep)
    set_priority = _in_a_thread(Farm.set_priority)
    jobs = _in_a_thread(Farm.jobs)
    remove = _in_a_thread(Farm.remove)
    workers = _in_a_thread(Farm.workers)

    def watch(self, job_id: str) -> AsyncIterator[JobStatus]:
        """Like `Farm.watch`."""
        return _each(lambda _: self.farm.watch(job_id))

    def results(self, job_id: str, *, wait: bool = True) -> AsyncIterator[Result]:
        """Like `Farm.results`."""
        return _each(lambda tick: self.farm.results(job_id, wait=wait, progress=tick))

    def images(self, job_id: str) -> AsyncIterator[ImageStatus]:
        """Like `Farm.images`."""
        return _each(lambda _: self.farm.images(job_id))


class _Stopped(Exception):
    """The consumer has stopped."""


async def _each(begin: Callable[[Callable[[object], None]], Iterator[T]]) -> AsyncIterator[T]:
    """The values of an iterator that waits for them in a thread.

    Args:
        begin: creates the iterator, which must call the given function now and then, so that it ends soon
            after its consumer has stopped.
    """
    stopped = Event()

    def tick(_: object) -> None:
        if stopped.is_set():
            raise _Stopped

    iterator = await asyncio.to_thread(begin, tick)

    def step() -> tuple[T] | None:
        for item in iterator:
            return (item,)
        return None

    try:
        while (found := await asyncio.to_thread(step)) is not None:
            yield found[0]
    finally:
        stopped.set()
