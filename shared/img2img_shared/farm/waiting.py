"""What a job waits for when it makes no progress."""

from collections.abc import Mapping, Sequence

from img2img_shared.job import JobState
from img2img_shared.placement import DEADLY
from img2img_shared.records import JobStatus, WorkerStatus

#: workers whose trouble is told
TOLD = 3


def is_idle(status: JobStatus) -> bool:
    """Whether images of a job could be started, and yet none has been."""
    return status.state in (JobState.PENDING, JobState.RUNNING) and status.pending > 0 and not status.running


def waits_for(status: JobStatus, workers: Sequence[WorkerStatus], deaths: int = 0) -> str | None:
    """What an idle job waits for, for its user to read; None: its workers' next free slot.

    Args:
        deaths: how many workers recently died while loading its model, if no worker has it now.
    """
    if deaths >= DEADLY:
        return (
            f"another try of {status.model}: {deaths} workers died as they loaded it, "
            "so it is left alone for ten minutes"
        )
    serving = [worker for worker in workers if status.model in worker.info.models]
    if not serving:
        aside = {each.info.id: each.report.aside.get(status.model) for each in workers}
        reasons = _by_reason({worker: reason for worker, reason in aside.items() if reason})
        if reasons:
            return f"its workers, which cannot load {status.model} for now: {reasons}"
        return f"a worker that serves {status.model}: there is none"
    troubled = [worker for worker in serving if worker.report.trouble]
    if len(troubled) < len(serving):
        return None
    reasons = _by_reason({worker.info.id: str(worker.report.trouble) for worker in troubled})
    return "its workers, which claim nothing for now: " + reasons


def _by_reason(troubles: Mapping[str, str]) -> str:
    """Each of the workers' reasons once, with the workers that gave it."""
    reasons: dict[str, list[str]] = {}
    for worker, reason in troubles.items():
        reasons.setdefault(reason, []).append(worker)
    return "; ".join(f"{reason} ({_names(names)})" for reason, names in reasons.items())


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more
