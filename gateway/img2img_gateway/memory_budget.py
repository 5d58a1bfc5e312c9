"""A limit on the memory of all requests' data together."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class MemoryBudget:
    """Bytes that requests may hold. A request for more than is left waits; first come, first served.

    Create it in the event loop that grants it; threads may ask, too.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._loop = asyncio.get_running_loop()

    @asynccontextmanager
    async def held(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes, or the whole budget if that is less."""
        await self._take(size)
        try:
            yield
        finally:
            self._give_back(size)

    @contextmanager
    def held_in_thread(self, size: int) -> Iterator[None]:
        """The same, from a thread other than the event loop's."""
        asyncio.run_coroutine_threadsafe(self._take(size), self._loop).result()
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._give_back, size)

    async def _take(self, size: int) -> None:
        wanted = min(size, self._limit)
        if not self._waiting and wanted <= self._left:
            self._left -= wanted
            return
        granted: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((wanted, granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._give_back(wanted)
            raise

    def _give_back(self, size: int) -> None:
        self._left += min(size, self._limit)
        while self._waiting and (self._waiting[0][1].cancelled() or self._waiting[0][0] <= self._left):
            wanted, granted = self._waiting.popleft()
            if not granted.cancelled():
                self._left -= wanted
                granted.set_result(None)
