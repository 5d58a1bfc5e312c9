"""``img2img`` and ``txt2img``: A1111's synchronous calls, answered when the pictures are there."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import iterate_in_threadpool

from img2img_gateway.access import Caller, Principal
from img2img_gateway.dependencies import Parts, Services
from img2img_gateway.json_route import JsonRoute
from img2img_gateway.problems import problem_response
from img2img_gateway.sdapi.answer import Answer
from img2img_gateway.sdapi.reading import Reader, Reading
from img2img_gateway.sdapi.request import (
    Img2ImgRequest,
    RenderResponse,
    Txt2ImgRequest,
)
from img2img_gateway.sdapi.tasks import Task, Tasks
from img2img_gateway.submit import SentInput, stored, write
from img2img_shared.errors import FarmError, Refused, Summary, Unavailable
from img2img_shared.farm.submission import draw_seeds
from img2img_shared.params import Params
from img2img_shared.seeds import counted
from img2img_shared.steps import steps_in_all

router = APIRouter(prefix="/sdapi/v1", tags=["AUTOMATIC1111: renders"], route_class=JsonRoute)


@router.post("/img2img", response_model=RenderResponse)
async def img2img(request: Request, body: Img2ImgRequest, caller: Caller, parts: Parts) -> Response:
    """Render from pictures, and answer when they are there.

    Whitespace goes out ahead of a long call's JSON every 15 seconds, so that no proxy takes it for idle.
    Should it fail after that, its body is an error's (``error``, ``detail``, no ``images``) although its
    status is 200.
    A caller that hangs up stops the render unless it asked for ``save_images``.
    """
    if not body.init_images:
        raise Refused("init_images", body.init_images, "send at least one picture as base64")
    reading = await Reader(parts.farm, caller.tenant).read(body)
    return await _Call(parts, caller, "img2img", reading).answer(request)


@router.post("/txt2img", response_model=RenderResponse)
async def txt2img(request: Request, body: Txt2ImgRequest, caller: Caller, parts: Parts) -> Response:
    """Render from pure noise, and answer when the pictures are there; see img2img."""
    reading = await Reader(parts.farm, caller.tenant).read(body)
    return await _Call(parts, caller, "txt2img", reading).answer(request)


class _Call:
    """One synchronous render."""

    def __init__(self, parts: Services, caller: Principal, kind: str, reading: Reading) -> None:
        self._parts = parts
        self._caller = caller
        self._kind = kind
        self._reading = reading
        self._body = reading.body
        self._tasks = Tasks(parts.farm, caller.tenant)

    async def answer(self, request: Request) -> Response:
        """The response: with its status if it is there soon, else begun with whitespace."""
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

    async def _soon(self, request: Request, rendering: asyncio.Task[Answer]) -> Response | None:
        """The response within one keep-alive, or None."""
        end = time.monotonic() + self._parts.farm.settings.keep_alive
        while time.monotonic() < end:
            done, _ = await asyncio.wait([rendering], timeout=min(1.0, max(0.0, end - time.monotonic())))
            if done:
                return StreamingResponse(self._sent(rendering.result()), media_type="application/json")
            if await request.is_disconnected():
                rendering.cancel()
                return Response(status_code=499)
        return None

    async def _stream(self, rendering: asyncio.Task[Answer]) -> AsyncIterator[bytes]:
        try:
            while not rendering.done():
                yield b" "
                await asyncio.wait([rendering], timeout=self._parts.farm.settings.keep_alive)
            try:
                answer = rendering.result()
            except Exception as error:
                yield bytes(problem_response("/sdapi", error).body)
            else:
                async for part in self._sent(answer):
                    yield part
        finally:
            rendering.cancel()

    async def _sent(self, answer: Answer) -> AsyncIterator[bytes]:
        """The answer's bytes; what A1111 would not keep on its disk is removed behind them."""
        try:
            async for part in iterate_in_threadpool(answer.parts()):
                yield part
        finally:
            await self._tidy(answer)

    async def _begin(self) -> Task:
        """Submit it: whatever is wrong with its pictures is told from here."""
        reading = self._reading
        jobs: list[str] = []
        try:
            await self._submit(reading.model, reading.params, jobs)
            task = Task(
                id=self._body.force_task_id or f"task({secrets.token_hex(8)})",
                kind=self._kind,
                jobs=tuple(jobs),
                steps=steps_in_all(reading.params),
                begun=time.time(),
            )
            await self._tasks.begin(task)
        except BaseException:  # nobody will ask for these; the last may be there although no answer came
            await asyncio.shield(self._parts.farm.cancel(self._caller.tenant, jobs))
            raise
        return task

    async def _submit(self, model: str, params: Params, jobs: list[str]) -> None:
        """A job for each iteration, its seeds following the one before; each is told in `jobs`."""
        body = self._body
        images, mask = await self._pictures(body) if isinstance(body, Img2ImgRequest) else ([None], None)
        shared = {"mask": mask} if mask else {}
        for role, picture in self._reading.control_pictures.items():
            shared[role] = await stored(self._parts, self._caller, picture, role)
        per_job = body.batch_size
        params = draw_seeds(params)
        if len(images) > 1:  # a batch of different pictures: one output each
            per_job = len(images)
            params = params.model_copy(update={"images_per_input": 1})
        for iteration in range(body.n_iter):
            shifted = _shifted(params, iteration * per_job)
            submission = await self._parts.farm.begin(
                self._caller.tenant, model, shifted, priority=self._caller.allowed_priority()
            )
            jobs.append(submission.job.id)
            await write(self._parts, self._caller, submission, _inputs(images), shared)

    async def _pictures(self, body: Img2ImgRequest) -> tuple[list[str], str | None]:
        """Store keys of the init pictures and of the mask."""
        images = body.init_images or []
        if len(images) > 1 and len(images) > body.batch_size:
            raise Refused(
                "init_images",
                Summary(f"{len(images)} pictures"),
                f"send at most batch_size, {body.batch_size}",
            )
        keys = [
            await stored(self._parts, self._caller, each, f"init_images.{i}") for i, each in enumerate(images)
        ]
        mask = await stored(self._parts, self._caller, body.mask, "mask") if body.mask else None
        if not body.include_init_images:  # a call may wait for hours, and need not hold what it brought
            body.init_images, body.mask = None, mask
        return keys, mask

    async def _render(self, task: Task) -> Answer:
        """Wait until there is an answer."""
        farm = self._parts.farm
        answer = Answer(farm, self._caller.tenant, task, self._reading)
        try:
            for job in task.jobs:
                await self._parts.watch.finished(job, self._caller.tenant)
            await farm.call(answer.read)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError | Unavailable) and not self._body.save_images:
                await asyncio.shield(farm.cancel(self._caller.tenant, task.jobs))
            await self._tidy(answer)
            raise
        finally:
            with suppress(FarmError):
                await asyncio.shield(self._tasks.end(task))
        return answer

    async def _tidy(self, answer: Answer) -> None:
        if not self._body.save_images:
            with suppress(FarmError):
                await asyncio.shield(self._parts.farm.call(answer.remove))


async def _inputs(images: Sequence[str | None]) -> AsyncIterator[SentInput]:
    for image in images:
        yield SentInput(pictures={} if image is None else {"image": image})


def _shifted(params: Params, offset: int) -> Params:
    """`params` for images that come `offset` later in one count of seeds."""
    seed, subseed = counted(params.seed, params.subseed, params.subseed_strength, offset)
    return params.model_copy(update={"seed": seed, "subseed": subseed})
