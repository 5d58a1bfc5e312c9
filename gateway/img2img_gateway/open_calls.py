"""The synchronous calls that gateways are answering: what a killed one was to answer is not rendered in vain.

{prefix}:gateway:heard           sorted set: gateways by when they were last heard, in seconds by Redis' clock
{prefix}:gateway:calls:GATEWAY   hash: "TENANT TASK" to the jobs of a call that it answers
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress

from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.fault_log import RoundLog
from img2img_shared.errors import FarmError, NotFound
from img2img_shared.ledger.tables import Table

#: seconds between two signs of a gateway's life, and seconds without one after which it is dead
BEAT, DEAD = 10.0, 60.0


class OpenCalls:
    """The calls of one gateway, and those of dead ones. Methods block, and raise `Unavailable`."""

    def __init__(self, farm: AsyncFarm) -> None:
        self._farm = farm
        self._redis = farm.redis
        self._name = secrets.token_hex(8)
        self._calls = Table(farm.redis, "calls", self._name)
        #: the clocks here and in Redis at the last beat, and since when beats have come as they should
        self._beaten, self._redis_time, self._regular_since = 0.0, 0.0, 0.0

    async def run(self) -> None:
        """Run until cancelled."""
        rounds = RoundLog("the calls of gateways that were killed")
        while True:
            try:
                await self._farm.call(self.round)
            except FarmError as error:
                rounds.waits(error)
            else:
                rounds.goes_on()
            await asyncio.sleep(BEAT)

    def begin(self, tenant: str, task: str, jobs: Sequence[str]) -> None:
        """Note that this gateway answers a call from these jobs' results, which nobody else wants."""
        self._calls.put({f"{tenant} {task}": list(jobs)})

    def end(self, tenant: str, task: str) -> None:
        """Note that it was answered, or is not going to be."""
        self._calls.remove(f"{tenant} {task}")

    def round(self) -> None:
        """Give a sign of life, and end the jobs of gateways that have given none for long.

        If Redis was away, or another one has taken its place, others' signs are waited for first.
        """
        here, there = time.monotonic(), self._redis_now()
        self._redis.call("ZADD", self._redis.key("gateway", "heard"), there, self._name)
        gap = max(here - self._beaten, there - self._redis_time)
        self._beaten, self._redis_time = here, there
        if gap > 2 * BEAT:
            self._regular_since = here
        if here - self._regular_since >= DEAD:
            self._bury(there - DEAD)

    def _bury(self, before: float) -> None:
        heard = self._redis.key("gateway", "heard")
        for each in self._redis.call("ZRANGEBYSCORE", heard, "-inf", before):
            gateway = str(each, "utf-8")
            calls = Table(self._redis, "calls", gateway)
            for name, jobs in calls.all().items():
                tenant, _, task = name.partition(" ")
                for job in jobs:
                    self._drop(tenant, job)
                Table(self._redis, "tasks", tenant).remove(task)
                calls.remove(name)
            self._redis.call("ZREM", heard, gateway)

    def _drop(self, tenant: str, job: str) -> None:
        """End a job, and have its results removed as soon as it has ended."""
        with suppress(NotFound):
            self._farm.ledger.cancel(job, tenant)
            self._farm.ledger.set_keep(job, tenant, 0.0)

    def _redis_now(self) -> float:
        seconds, micros = self._redis.call("TIME")
        return int(seconds) + int(micros) / 1e6
