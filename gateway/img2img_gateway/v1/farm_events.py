"""What happens to all jobs of the caller, as it happens (server-sent events)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from img2img_gateway.access import Caller
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.v1.api_model import ApiModel
from img2img_gateway.v1.examples import JOB
from img2img_gateway.v1.job_answers import JobAnswer
from img2img_shared.records import JobChanges

router = APIRouter(tags=["events"])

#: seconds after which a stream ends: whoever opens it again must still have access
LASTS = 60.0

Cursor = Annotated[str | None, Query(pattern=r"^\d{1,16}$", description="The id of the last event seen.")]
LastEventId = Annotated[str | None, Header(pattern=r"^\d{1,16}$")]


class JobsUpdate(ApiModel):
    """One server-sent event: jobs as they are now, and the ids of those that were removed."""

    jobs: list[JobAnswer]
    gone: list[str]

    @classmethod
    def of(cls, changes: JobChanges) -> "JobsUpdate":
        return cls(jobs=[JobAnswer.of(job) for job in changes.jobs], gone=changes.gone)

    @classmethod
    def example(cls) -> str:
        """One event as it is sent, for the reference."""
        update = cls(jobs=[], gone=[JOB])
        return f"event: jobs\ndata: {update.model_dump_json()}\nid: 1767225600000\n\n"


_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"example": JobsUpdate.example()}}}
}


@router.get("/events", response_class=EventSourceResponse, responses=_EVENTS, summary="Follow all your jobs")
async def farm_events(
    services: ServicesDep, caller: Caller, after: Cursor = None, last_event_id: LastEventId = None
) -> AsyncIterator[ServerSentEvent]:
    """Your jobs as they change, as server-sent events, one a second at most.

    An event of type "jobs" has the current state of each job to which something has happened. The first one
    may have no jobs: its id is where the stream begins. An event of type "lost" says that the event asked for
    is more than an hour old, so list the jobs again. The stream ends after a minute; send `Last-Event-ID`, or
    `after`, to continue it.
    """
    now = asyncio.get_running_loop().time
    end = now() + LASTS
    is_first = True
    async with aclosing(services.news.changes(caller.tenant, int(last_event_id or after or 0))) as news:
        async for changes in news:
            is_last = now() >= end or services.watch.stopping
            if changes.jobs or changes.gone or is_first or is_last:
                yield ServerSentEvent(
                    raw_data=JobsUpdate.of(changes).model_dump_json(),
                    event="jobs" if changes.is_whole else "lost",
                    id=str(changes.until),
                )
            if is_last:
                return
            is_first = False
