"""What the ledger's scripts answer, as records."""

from dataclasses import fields
from typing import Any

import msgpack

from img2img_shared.job import ImageState, JobState
from img2img_shared.records import Event, ImageStatus, JobStatus, WorkerInfo, WorkerStatus, moment

#: seconds over which a job's rate is taken
WINDOW = 60.0
#: ends of images that are remembered for it, as in common.lua
PACE = 256


def job_status(tenant: str, now: int, answer: list[Any]) -> JobStatus:
    """One answer of ``status``."""
    job_id, model, priority, state, n, running, done, failed, created, started, finished, pace = answer
    job_state = JobState(str(state, "utf-8"))
    rest = n - running - done - failed
    cancelled = rest if job_state is JobState.CANCELLED else 0
    rate = _rate(now, int(started or created), [int(end) for end in pace])
    left = rest - cancelled + running
    return JobStatus(
        id=str(job_id, "utf-8"),
        tenant=tenant,
        model=str(model, "utf-8"),
        priority=int(priority),
        state=job_state,
        n=n,
        pending=rest - cancelled,
        running=running,
        done=done,
        failed=failed,
        cancelled=cancelled,
        rate=rate,
        eta=left / rate if left and rate else None,
        created=moment(created),
        started=moment(started) if started else None,
        finished=moment(finished) if finished else None,
    )


def image_status(index: int, state: bytes, attempt: int, detail: bytes) -> ImageStatus:
    """One answer of ``images``."""
    image_state = ImageState(str(state, "utf-8"))
    text = str(detail, "utf-8", "replace")
    return ImageStatus(
        index=index,
        state=image_state,
        attempt=attempt,
        worker=text if image_state is ImageState.RUNNING else None,
        reason=text if image_state is ImageState.FAILED else None,
    )


def event(event_id: bytes, fields: dict[bytes, bytes]) -> Event:
    """One entry of a job's stream."""
    text = {str(key, "utf-8"): str(value, "utf-8", "replace") for key, value in fields.items()}
    index = int(text["index"]) if text["index"] else None
    return Event(
        id=str(event_id, "utf-8"),
        state=JobState(text["state"]) if index is None else ImageState(text["state"]),
        index=index,
        attempt=int(text["attempt"]) if text["attempt"] else None,
        reason=text["reason"] or None,
        job_state=JobState(text["job"]),
        n=int(text["n"]),
        done=int(text["done"]),
        failed=int(text["failed"]),
        running=int(text["running"]),
    )


def worker_status(_: bytes, data: bytes, running: bytes, seen: bytes) -> WorkerStatus:
    """One answer of ``workers``. What a newer worker says beside is left alone."""
    said = msgpack.unpackb(data, use_list=False)
    known = {each.name: said[each.name] for each in fields(WorkerInfo) if each.name in said}
    return WorkerStatus(info=WorkerInfo(**known), running=int(running), seen=moment(seen))


def _rate(now: int, started: int, ends: list[int]) -> float:
    """Images per second of late, by when they ended (ms, newest first)."""
    since = max(started, now - round(WINDOW * 1000))
    recent = [end for end in ends if end > since]
    if len(recent) == PACE:
        since = recent.pop()
    return 1000 * len(recent) / max(now - since, 1)
