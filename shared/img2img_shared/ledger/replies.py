"""The answers of the ledger's scripts, as records."""

from math import exp, expm1, sqrt
from typing import Any

import msgpack

from img2img_shared.job import ImageState, JobState
from img2img_shared.records import (
    Event,
    ImageStatus,
    JobStatus,
    WorkerInfo,
    WorkerReport,
    WorkerStatus,
    known_fields,
    moment,
)

#: seconds after which an image's end counts 1/e in its job's rate, as in jobs.lua
RECENT = 30.0
#: images that must have ended before they say when the others will
ENOUGH = 4
#: an image's state by its first letter
_STATES = {state[0]: state for state in ImageState}


def job_status(tenant: str, answer: list[Any]) -> JobStatus:
    """The status of a job, from what `standing` of jobs.lua returns."""
    job_id, model, priority, state, n, running, done, failed, *rest_of_it = answer
    created, started, finished, clock, stood, *ends, name, owner, tags, retain = rest_of_it
    job_state = _job_state(str(state, "utf-8"), failed)
    rest = n - running - done - failed
    cancelled = rest if job_state is JobState.CANCELLED else 0
    worked = int(clock) - int(started or created) - int(stood)
    seconds = max(worked, 1000) / 1000  # before, one image would make any rate
    recent = _recent(int(clock), *map(float, ends))
    rate = (done + failed) / seconds if finished else recent / (RECENT * -expm1(-seconds / RECENT))
    eta, eta_spread = _eta(rest - cancelled + running, done + failed, seconds, recent, rate)
    return JobStatus(
        id=str(job_id, "utf-8"),
        tenant=tenant,
        model=str(model, "utf-8", "replace"),
        name=str(name, "utf-8", "replace") or None,
        owner=str(owner, "utf-8", "replace") or None,
        tags=tuple(filter(None, str(tags, "utf-8", "replace").split(","))),
        keep=int(retain) / 1000 if retain else None,
        priority=int(priority),
        state=job_state,
        n=n,
        pending=rest - cancelled,
        running=running,
        done=done,
        failed=failed,
        cancelled=cancelled,
        rate=rate,
        eta=eta,
        eta_spread=eta_spread,
        created=moment(created),
        started=moment(started) if started else None,
        finished=moment(finished) if finished else None,
    )


def image_statuses(start: int, states: bytes, more: list[Any]) -> list[ImageStatus]:
    """One answer of ``images``."""
    details = {place: (attempt, str(detail, "utf-8", "replace")) for place, attempt, detail in more}
    found = []
    for place, letter in enumerate(states.decode()):
        state = _STATES[letter]
        attempt, detail = details.get(place, (int(state is ImageState.DONE), ""))
        found.append(
            ImageStatus(
                index=start + place,
                state=state,
                attempt=attempt,
                worker=detail if state is ImageState.RUNNING else None,
                reason=detail if state is ImageState.FAILED else None,
            )
        )
    return found


def event(event_id: bytes, fields: dict[bytes, bytes]) -> Event:
    """One entry of a job's stream."""
    text = {str(key, "utf-8"): str(value, "utf-8", "replace") for key, value in fields.items()}
    index = int(text["index"]) if text["index"] else None
    failed = int(text["failed"])
    return Event(
        id=str(event_id, "utf-8"),
        state=_job_state(text["state"], failed) if index is None else ImageState(text["state"]),
        index=index,
        attempt=int(text["attempt"]) if text["attempt"] else None,
        reason=text["reason"] or None,
        job_state=_job_state(text["job"], failed),
        n=int(text["n"]),
        done=int(text["done"]),
        failed=failed,
        running=int(text["running"]),
    )


def worker_status(_: bytes, data: bytes, running: bytes, seen: bytes) -> WorkerStatus:
    """One answer of ``workers``."""
    said = msgpack.unpackb(data)
    return WorkerStatus(
        info=WorkerInfo(**known_fields(WorkerInfo, said)),
        report=WorkerReport(**known_fields(WorkerReport, said.get("report", {}))),
        running=int(running),
        seen=moment(seen),
    )


def _job_state(state: str, failed: int) -> JobState:
    """The state of a job; the ledger's own word for one that has ended does not tell of failures."""
    return JobState.FAILED if state == JobState.DONE and failed else JobState(state)


def _eta(
    left: int, ended: int, seconds: float, recent: float, rate: float
) -> tuple[float | None, float | None]:
    """Seconds to go and how far off they are likely to be, or None if too few images have ended to tell.

    The recent `rate` is used if enough `recent` images support it, else the whole job's: of slow images, none
    may have ended recently. Ends that come at random spread as the square root of their number.
    """
    if recent < ENOUGH:
        recent, rate = ended, ended / seconds
    if not left or recent < ENOUGH:
        return None, None
    eta = left / rate
    return eta, eta / sqrt(recent)


def _recent(now: int, ended: float, ended_at: float) -> float:
    """How many images ended recently: `ended` by the time `ended_at`, earlier ones counted for less.

    Times are in ms. For a job that has run long enough, this is the number of images in `RECENT` seconds.
    """
    return ended * exp(min(0.0, ended_at - now) / 1000 / RECENT)
