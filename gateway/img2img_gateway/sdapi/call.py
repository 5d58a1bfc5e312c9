"""A synchronous call of A1111's API: submits jobs, and answers when they have ended."""

import asyncio
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Protocol

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import iterate_in_threadpool

from img2img_gateway.access import Principal
from img2img_gateway.dependencies import Services
from img2img_gateway.problems import problem_response
from img2img_gateway.sdapi.tasks import Task, Tasks
from img2img_shared.errors import FarmError, Unavailable


class CallAnswer(Protocol):
    """The final answer. Its methods block."""

    def read(self) -> None:
        """Look up the results; an error is raised, and becomes the answer instead."""

    def parts(self) -> Iterator[bytes]:
        """The answer's JSON, piece by piece."""

    def remove(self) -> None:
        """Remove the pictures."""


class Call(ABC):
    """One synchronous call."""

    #: as A1111 calls it in its progress
    kind: str
    #: sampling steps of each image
    steps = 1
    #: as the client calls it, where it does
    task_id: str | None = None
    #: whose errors have the shape that its clients read
    path = "/sdapi"
    #: signs of life that are left out before the answer is begun, and with it a status that may prove wrong
    patience = 1
    #: whether what it made outlives its answer
    keeps = False

    def __init__(self, services: Services, caller: Principal) -> None:
        self._services = services
        self._caller = caller
        self._tasks = Tasks(services.farm, caller.tenant)
        self._calls = services.calls
        #: the task whose jobs nobody else wants
        self._open = ""

    @abstractmethod
    async def submit(self, jobs: list[str]) -> None:
        """Submit the jobs; each is added to `jobs`, even if a later one fails."""

    @abstractmethod
    def answer_of(self, task: Task) -> CallAnswer:
        """The answer for a task that has ended."""

    async def answer(self, request: Request) -> Response:
        """The response: with the right status if it is ready soon, else begun with whitespace."""
        task = await self._begin()
        rendering = asyncio.create_task(self._render(task))
        try:
            soon = await self._soon(request, rendering)
        except BaseException:
            rendering.cancel()
            raise
        if soon is None:
            return StreamingResponse(self._stream(rendering), media_type="application/json")
        return soon

    async def _soon(self, request: Request, rendering: asyncio.Task[CallAnswer]) -> Response | None:
        """The response, or None if it is not ready in time."""
        end = time.monotonic() + self.patience * self._services.farm.settings.keep_alive
        while time.monotonic() < end:
            done, _ = await asyncio.wait([rendering], timeout=min(1.0, max(0.0, end - time.monotonic())))
            if done:
                return StreamingResponse(self._sent(rendering.result()), media_type="application/json")
            if await request.is_disconnected():
                rendering.cancel()
                return Response(status_code=499)
        return None

    async def _stream(self, rendering: asyncio.Task[CallAnswer]) -> AsyncIterator[bytes]:
        try:
            while not rendering.done():
                yield b" "
                await asyncio.wait([rendering], timeout=self._services.farm.settings.keep_alive)
            try:
                answer = rendering.result()
            except Exception as error:
                self._services.faults.tell_late("POST", self.path, error)
                yield bytes(problem_response(self.path, error).body)
            else:
                async for part in self._sent(answer):
                    yield part
        finally:
            rendering.cancel()

    async def _sent(self, answer: CallAnswer) -> AsyncIterator[bytes]:
        """The answer's bytes; pictures that A1111 would not keep on its disk are removed afterwards."""
        try:
            async for part in iterate_in_threadpool(answer.parts()):
                yield part
        finally:
            await self._tidy(answer)

    async def _begin(self) -> Task:
        """Submit the task: errors in its pictures are raised here."""
        jobs: list[str] = []
        try:
            await self.submit(jobs)
            task = Task(
                id=self.task_id or f"task({secrets.token_hex(8)})",
                kind=self.kind,
                jobs=tuple(jobs),
                steps=self.steps,
                begun=time.time(),
            )
            await self._tasks.begin(task)
            if not self.keeps:
                self._open = task.id
                await self._services.farm.call(self._calls.begin, self._caller.tenant, task.id, task.jobs)
        except BaseException:  # nobody will ask for these; the last may be there although no answer came
            await asyncio.shield(self._services.farm.cancel(self._caller.tenant, jobs))
            raise
        return task

    async def _render(self, task: Task) -> CallAnswer:
        """Wait for the task, and return its answer."""
        farm = self._services.farm
        answer = self.answer_of(task)
        try:
            for job in task.jobs:
                await self._services.watch.finished(job, self._caller.tenant)
            await farm.call(answer.read)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError | Unavailable) and not self.keeps:
                await asyncio.shield(farm.cancel(self._caller.tenant, task.jobs))
            await self._tidy(answer)
            raise
        finally:
            with suppress(FarmError):
                await asyncio.shield(self._tasks.end(task))
        return answer

    async def _tidy(self, answer: CallAnswer) -> None:
        if not self.keeps:
            with suppress(FarmError):
                await asyncio.shield(self._services.farm.call(self._forget, answer))

    def _forget(self, answer: CallAnswer) -> None:
        answer.remove()
        self._calls.end(self._caller.tenant, self._open)
