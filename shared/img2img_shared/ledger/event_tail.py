"""The newest events of many jobs, read by a few connections for all who watch."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from img2img_shared.ledger.clients import WHO, Demoted, asynchronous, of_primary
from img2img_shared.ledger.connect import FarmRedis, answering
from img2img_shared.ledger.keys import events_key
from img2img_shared.ledger.redis_url import read_redis_url
from img2img_shared.ledger.replies import event
from img2img_shared.records import Event

#: connections to Redis, however many begin to watch at once
CONNECTIONS = 4
#: events of a job that one read gives
EVENTS = 500


class EventTail:
    """Reads the ends of jobs' event streams. Methods raise `Unavailable` when Redis does not answer."""

    def __init__(self, redis_url: str, prefix: str) -> None:
        self._prefix = prefix
        self._client = asynchronous(read_redis_url(redis_url))
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self.close: Callable[[], Awaitable[None]] = self._client.aclose

    async def newest(self, job_id: str) -> str:
        """The id of a job's last event; "0" if it has none."""
        found = await self._call("XREVRANGE", events_key(self._prefix, job_id), "+", "-", "COUNT", 1)
        return str(found[0][0], "utf-8") if found else "0"

    async def read(self, after: Mapping[str, str]) -> dict[str, list[Event]]:
        """By job, its events after the given id, at most `EVENTS`; jobs without any are left out."""
        if not after:
            return {}
        return _by_job(self._prefix, after, await self._call(*_command(self._prefix, after, EVENTS)))

    async def _call(self, *words: str | int) -> Any:
        async with self._turns:
            with answering():
                try:
                    return await self._ask(*words)
                except Demoted:  # connections that are idle lead to the same replica
                    await self._client.connection_pool.disconnect(inuse_connections=False)
                    return await self._ask(*words)

    async def _ask(self, *words: str | int) -> Any:
        async with self._client.pipeline(transaction=False) as pipe:
            queue: Callable[..., Any] = pipe.execute_command
            queue(*WHO)
            queue(*words)
            return of_primary(await pipe.execute(raise_on_error=False))[0]


def read_events(redis: FarmRedis, after: Mapping[str, str], count: int) -> dict[str, list[Event]]:
    """By job, its events after the given id, at most `count`; jobs without any are left out.

    Raises:
        Unavailable: Redis does not answer.
    """
    if not after:
        return {}
    return _by_job(redis.prefix, after, redis.call(*_command(redis.prefix, after, count)))


def _command(prefix: str, after: Mapping[str, str], count: int) -> list[str | int]:
    streams = [events_key(prefix, job_id) for job_id in after]
    return ["XREAD", "COUNT", count, "STREAMS", *streams, *after.values()]


def _by_job(prefix: str, jobs: Iterable[str], answer: Any) -> dict[str, list[Event]]:
    names = {events_key(prefix, job_id): job_id for job_id in jobs}
    return {names[str(name, "utf-8")]: [event(*entry) for entry in found] for name, found in answer or ()}
