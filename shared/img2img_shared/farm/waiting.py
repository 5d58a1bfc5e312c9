"""What a job waits for that does not move."""

from collections.abc import Sequence

from img2img_shared.job import JobState
from img2img_shared.records import JobStatus, WorkerStatus

#: workers whose trouble is told
TOLD = 3


def is_idle(status: JobStatus) -> bool:
    """Whether a job has images to be begun, may have them begun, and yet none is."""
    return status.state in (JobState.PENDING, JobState.RUNNING) and status.pending > 0 and not status.running


def waits_for(status: JobStatus, workers: Sequence[WorkerStatus]) -> str | None:
    """What an idle job waits for, for its user to read; None: its workers' next free slot."""
    serving = [worker for worker in workers if status.model in worker.info.models]
    if not serving:
        return f"a worker that serves {status.model}: there is none"
    troubled = [worker for worker in serving if worker.report.trouble]
    if len(troubled) < len(serving):
        return None
    reasons: dict[str, list[str]] = {}
    for worker in troubled:
        reasons.setdefault(str(worker.report.trouble), []).append(worker.info.id)
    told = [f"{reason} ({_names(names)})" for reason, names in reasons.items()]
    return "its workers, which claim nothing for now: " + "; ".join(told)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more
