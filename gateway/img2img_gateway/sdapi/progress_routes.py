"""The progress of synchronous renders, and routes to stop them."""

import base64
import time
import zlib
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from img2img_gateway.access import Caller, Principal
from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.json_route import JsonRoute
from img2img_gateway.sdapi.tasks import Task, Tasks, TaskStatus
from img2img_shared.errors import StoreError
from img2img_shared.job import ImageState, result_key
from img2img_shared.ledger import IMAGES

router = APIRouter(tags=["AUTOMATIC1111: progress"], route_class=JsonRoute)

#: what A1111 says of a render that has begun and has nothing to show yet
_BEGUN = 0.01


class State(BaseModel):
    """A1111's ``state``."""

    skipped: bool = False
    interrupted: bool = False
    stopping_generation: bool = False
    job: str = ""
    job_count: int = 0
    job_timestamp: str = "0"
    job_no: int = 0
    sampling_step: int = 0
    sampling_steps: int = 0


class ProgressResponse(BaseModel):
    """The progress of all the caller's synchronous renders together; when idle, 0 and no job."""

    progress: float = 0
    eta_relative: float = 0
    state: State = State()
    #: an image under way as it looks now, else the last that is done, as base64
    current_image: str | None = None
    textinfo: str | None = None


class TaskRequest(BaseModel):
    """``POST /internal/progress``."""

    id_task: Annotated[str, Field(max_length=1000)] | None = None
    id_live_preview: int | None = -1
    live_preview: bool | None = True


class TaskResponse(BaseModel):
    """The progress of a task that its client named (``force_task_id``)."""

    active: bool
    queued: bool
    completed: bool
    progress: float | None = None
    eta: float | None = None
    live_preview: str | None = None
    id_live_preview: int | None = None
    textinfo: str | None = None


@router.get("/sdapi/v1/progress", summary="See how far your renders are")
async def progress(
    caller: Caller, services: ServicesDep, skip_current_image: Annotated[bool, Query()] = False
) -> ProgressResponse:
    """The progress of the caller's renders: images that are done, and steps of those under way."""
    tasks = Tasks(services.farm, caller.tenant)
    running = [each for each in await tasks.under_way() if not each.is_over]
    last = await tasks.last()
    if not running:
        begun = "0" if last.begun is None else _timestamp(last.begun)
        state = State(
            interrupted=last.interrupted, job_timestamp=begun, job_no=last.job_no, sampling_steps=last.steps
        )
        return ProgressResponse(state=state)
    first = running[0]
    calls = await services.farm.call(_calls_now, services.farm, caller, running)
    picture = None
    if not skip_current_image:
        picture = await services.farm.call(_picture_now, services.farm, caller, running)
    share = _share(running, calls)
    return ProgressResponse(
        progress=share,
        eta_relative=_eta(first.task, share),
        state=State(
            interrupted=last.interrupted,
            skipped=any(last.skipped in each.unfinished for each in running),
            job=first.job,
            job_count=sum(len(each.task.jobs) for each in running),
            job_timestamp=_timestamp(first.task.begun),
            job_no=sum(each.jobs_ended for each in running),
            sampling_step=first.task.steps * calls[0][0] // calls[0][1] if calls else 0,
            sampling_steps=first.task.steps,
        ),
        current_image=base64.b64encode(picture).decode() if picture else None,
    )


@router.post("/sdapi/v1/interrupt", summary="Interrupt your renders")
async def interrupt(caller: Caller, services: ServicesDep) -> dict[str, Any]:
    """End the caller's renders that have begun; their calls answer with the images as they are."""
    await Tasks(services.farm, caller.tenant, caller.owner).interrupt()
    return {}


@router.post("/sdapi/v1/skip", summary="Skip to the next iteration")
async def skip(caller: Caller, services: ServicesDep) -> None:
    """End the current iteration with its images as they are; the next ones (``n_iter``) continue."""
    await Tasks(services.farm, caller.tenant, caller.owner).skip()


@router.get("/internal/ping", summary="See whether it answers")
async def ping() -> dict[str, Any]:
    """Answers that the gateway is there."""
    return {}


@router.get("/internal/pending-tasks", summary="List your waiting tasks")
async def pending_tasks(caller: Caller, services: ServicesDep) -> dict[str, Any]:
    """The caller's tasks that have not begun."""
    waiting = [each for each in await Tasks(services.farm, caller.tenant).under_way() if not each.is_begun]
    return {"size": len(waiting), "tasks": [each.task.id for each in waiting]}


@router.post("/internal/progress", summary="See how far a task is")
async def task_progress(body: TaskRequest, caller: Caller, services: ServicesDep) -> TaskResponse:
    """The progress of one task. One that is not under way any more, or never was, counts as completed."""
    found = [
        each for each in await Tasks(services.farm, caller.tenant).under_way() if each.task.id == body.id_task
    ]
    if not found or found[0].is_over:
        return TaskResponse(active=False, queued=False, completed=True, id_live_preview=-1)
    if not found[0].is_begun:
        return TaskResponse(
            active=False, queued=True, completed=False, id_live_preview=-1, textinfo="Waiting..."
        )
    calls = await services.farm.call(_calls_now, services.farm, caller, found)
    picture = None
    if body.live_preview:
        picture = await services.farm.call(_picture_now, services.farm, caller, found)
    preview_id = zlib.crc32(picture) if picture else -1
    share = _share(found, calls)
    return TaskResponse(
        active=True,
        queued=False,
        completed=False,
        progress=share,
        eta=_eta(found[0].task, share),
        live_preview=_data_url(picture) if picture and preview_id != body.id_live_preview else None,
        id_live_preview=preview_id,
    )


def _timestamp(seconds: float) -> str:
    return time.strftime("%Y%m%d%H%M%S", time.localtime(seconds))


def _share(running: list[TaskStatus], calls: list[tuple[int, int]]) -> float:
    images = sum(each.n for each in running)
    ended = sum(each.ended for each in running) + sum(done / total for done, total in calls)
    return min(1.0, _BEGUN + ended / images)


def _calls_now(farm: AsyncFarm, caller: Principal, running: list[TaskStatus]) -> list[tuple[int, int]]:
    """Model calls (done, in all) of the images under way, as workers report them; the oldest task's first."""
    found: list[tuple[int, int]] = []
    for status in (each for standing in running for each in standing.statuses if each.finished is None):
        images = farm.ledger.images(status.id, caller.tenant, max(0, status.n - IMAGES), IMAGES)
        indices = [image.index for image in images if image.state is ImageState.RUNNING]
        found += farm.previews.steps(status.id, caller.tenant, indices)
    return found


def _eta(task: Task, share: float) -> float:
    """Seconds until it is done, at its average speed so far (as in A1111)."""
    since = max(0.0, time.time() - task.begun)
    return since / share - since


def _picture_now(farm: AsyncFarm, caller: Principal, running: list[TaskStatus]) -> bytes | None:
    """The preview of an image under way, or else the last finished picture."""
    finished: bytes | None = None
    for status in (each for standing in running for each in standing.statuses):
        images = farm.ledger.images(status.id, caller.tenant, max(0, status.n - IMAGES), IMAGES)
        for image in images:
            if image.state is ImageState.RUNNING:
                preview = farm.previews.look(status.id, caller.tenant, image.index)
                if preview is not None:
                    return preview
        done = [image.index for image in images if image.state is ImageState.DONE]
        if done:
            job = farm.ledger.job(status.id, caller.tenant)
            with suppress(StoreError):
                finished = farm.store.get(result_key(job.id, done[-1], job.params.output_format))
    return finished


def _data_url(picture: bytes) -> str:
    kind = "jpeg" if picture.startswith(b"\xff\xd8") else "webp" if picture.startswith(b"RIFF") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
