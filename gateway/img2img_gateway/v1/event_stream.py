"""A job's events as they happen (server-sent events)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent

from img2img_gateway.access import Caller
from img2img_gateway.dependencies import Services, ServicesDep
from img2img_gateway.v1.job_answers import JobUpdate
from img2img_gateway.v1.request_fields import JobId
from img2img_gateway.watch import LOOK, ends
from img2img_shared.records import Event, JobStatus

router = APIRouter(prefix="/jobs", tags=["events"])

#: least seconds between two server-sent events: what happens in between goes into one
PACE = 0.2

_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"example": JobUpdate.example()}}}
}
LastEventId = Annotated[str | None, Header(pattern=r"^\d{1,20}-\d{1,20}$")]


async def check_job(job: JobId, caller: Caller, services: ServicesDep) -> JobStatus:
    """The job's status, looked up while an error can still become the response's status code."""
    return await services.farm.call(services.farm.ledger.status, job, caller.tenant)


@router.get("/{job}/events", response_class=EventSourceResponse, responses=_EVENTS, summary="Follow a job")
async def events(
    job: JobId,
    services: ServicesDep,
    status: Annotated[JobStatus, Depends(check_job)],
    last_event_id: LastEventId = None,
) -> AsyncIterator[ServerSentEvent]:
    """What happens to a job until it has ended, as server-sent events, five a second at most.

    Each event is of type "news" (the last one "end") and has the job's counters and what happened since the
    event before. Send `Last-Event-ID` to continue a broken stream. The farm remembers about the last 1000
    events of a job; older ones show in the counters only.
    """
    async with services.watch.stream(job) as stream:
        position = stream.total
        past = await _past(services, job, status.tenant, last_event_id or "0")
        if past:
            yield _message(past)
        elif status.finished is not None:
            return  # its last event was seen before
        while not (past and ends(past[-1])) and not services.watch.stopping:
            await asyncio.sleep(PACE)
            await stream.wait(position, LOOK)
            news, position = stream.since(position), stream.total
            news = [each for each in news if not past or _order(each.id) > _order(past[-1].id)]
            if news:
                yield _message(news)
                past = news


async def _past(services: Services, job: str, tenant: str, after: str) -> list[Event]:
    """What happened after an event, oldest first."""
    found: list[Event] = []
    while more := await services.farm.call(services.farm.ledger.events, job, tenant, after):
        found += more
        after = more[-1].id
    return found


def _message(events: list[Event]) -> ServerSentEvent:
    kind = "end" if ends(events[-1]) else "news"
    return ServerSentEvent(raw_data=JobUpdate.of(events).model_dump_json(), event=kind, id=events[-1].id)


def _order(event_id: str) -> tuple[int, int]:
    time, _, number = event_id.partition("-")
    return int(time), int(number)
