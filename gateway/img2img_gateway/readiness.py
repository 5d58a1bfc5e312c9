"""Whether a gateway can serve requests: whether Redis and the store answer."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from pydantic import BaseModel, Field

from img2img_gateway.async_farm import AsyncFarm

#: seconds for which an answer is believed, so that asking costs nothing
FRESH = 2.0
#: seconds after which a part that does not answer counts as away
PATIENCE = 5.0
#: what is looked up to see that the store answers; whether it is there does not matter
_PROBE = "inputs/" + "0" * 64


class Readiness(BaseModel):
    """Whether requests can be served, by each server that is needed."""

    ready: Annotated[bool, Field(examples=[True])]
    redis: bool
    store: bool
    #: whether any worker lives; without one jobs are taken, and wait
    workers: bool


class ReadinessProbe:
    """Checks once in `FRESH` seconds, for all who ask."""

    def __init__(self, farm: AsyncFarm) -> None:
        self._farm = farm
        self._turn = asyncio.Lock()
        self._looked = -FRESH
        self._found = Readiness(ready=False, redis=False, store=False, workers=False)
        #: calls to the parts, the last of which may not have been answered yet
        self._calls: dict[str, asyncio.Task[Any]] = {}

    async def look(self) -> Readiness:
        """The readiness now, or a moment ago."""
        async with self._turn:
            if time.monotonic() >= self._looked + FRESH:
                redis = self._call("redis", self._farm.workers)
                store = self._call("store", lambda: self._farm.call(self._farm.store.exists, _PROBE))
                await asyncio.wait([redis, store], timeout=PATIENCE)
                self._found = Readiness(
                    ready=_is_answered(redis) and _is_answered(store),
                    redis=_is_answered(redis),
                    store=_is_answered(store),
                    workers=_is_answered(redis) and bool(redis.result()),
                )
                self._looked = time.monotonic()
            return self._found

    def _call(self, part: str, function: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Task[Any]:
        """A call to a server: a new one, unless the last one has not been answered."""
        last = self._calls.get(part)
        if last is None or last.done():
            self._calls[part] = asyncio.create_task(function())
        return self._calls[part]


def _is_answered(call: asyncio.Task[Any]) -> bool:
    return call.done() and call.exception() is None
