"""A worker's log: events of the worker and its images, in lines for people."""

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from img2img_shared.records import Claim
from img2img_worker.farm.events import (
    BackInService,
    Claimed,
    Ended,
    Event,
    Failed,
    Finished,
    Interrupted,
    LetGo,
    Loaded,
    Lost,
    OutOfMemory,
    OutOfService,
    PutBack,
    TakenBack,
    TooLate,
    Warned,
)

log = logging.getLogger("img2img_worker")

#: seconds without an image of a job, after which none is left for this worker
QUIET = 5.0


@dataclass(frozen=True, kw_only=True)
class _Line:
    """A line of the log."""

    level: int
    text: str
    #: the same for programs
    fields: dict[str, Any] = field(default_factory=dict)
    #: a traceback follows
    error: Exception | None = None
    #: lines that are alike are written once, with a count; "": those of the same text are
    like: str = ""


@dataclass(kw_only=True)
class _Tally:
    """How many of a job's images ended in which way in this worker."""

    begun: float = field(default_factory=time.monotonic)
    #: when the last image ended
    ended: float = 0.0
    in_hand: int = 0
    done: int = 0
    failed: int = 0


class LogObserver:
    """Logs every event that matters to operators. Images without trouble are counted by their job."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Tally] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Log an event, or count it."""
        with self._lock:
            lines = [self._counted(event), _line(event)]
        for line in lines:
            if line is not None:
                _write(line)

    def say_ends(self, quiet: float = QUIET) -> None:
        """Log which jobs have had no image in hand for so many seconds; to be called now and then."""
        quiet_since = time.monotonic() - quiet
        with self._lock:
            over = [
                (job, tally)
                for job, tally in self._jobs.items()
                if not tally.in_hand and tally.ended <= quiet_since
            ]
            for job, _ in over:
                del self._jobs[job]
        for job, tally in over:
            _write(_end_of(job, tally))

    def _counted(self, event: Event) -> _Line | None:
        """The line for a job's first image; `say_ends` logs the end of a job."""
        match event:
            case Claimed(claim=claim):
                line = None if claim.job_id in self._jobs else _start_of(claim)
                self._jobs.setdefault(claim.job_id, _Tally()).in_hand += 1
                return line
            case Finished(claim=claim):
                self._jobs[claim.job_id].done += 1
            case Failed(claim=claim):
                self._jobs[claim.job_id].failed += 1
            case LetGo(claim=claim):
                tally = self._jobs[claim.job_id]
                tally.in_hand -= 1
                tally.ended = time.monotonic()
        return None


def _write(line: _Line) -> None:
    extra = {"fields": line.fields, "like": line.like}
    log.log(line.level, "%s", line.text, exc_info=line.error, extra=extra)


def _start_of(claim: Claim) -> _Line:
    return _Line(
        level=logging.INFO,
        text=f"job {claim.job_id}: its first image here (tenant {claim.tenant})",
        fields={"event": "job begun", "job": claim.job_id, "tenant": claim.tenant},
    )


def _end_of(job: str, tally: _Tally) -> _Line:
    seconds = max(tally.ended - tally.begun, 1e-3)
    rate = tally.done / seconds
    failed = f", {tally.failed} failed" if tally.failed else ""
    return _Line(
        level=logging.INFO,
        text=f"job {job}: none left here: {tally.done} done{failed} in {seconds:.1f} s, {rate:.3g} images/s",
        fields={
            "event": "job over",
            "job": job,
            "done": tally.done,
            "failed": tally.failed,
            "seconds": round(seconds, 3),
            "rate": round(rate, 4),
        },
    )


def _line(event: Event) -> _Line | None:
    """The line for an event, or None if it is not worth one."""
    match event:
        case Loaded(worker=worker, family=family, memory=memory, seconds=seconds):
            text = (
                f"{worker.id} serves {worker.model} ({family}) on {worker.device}: {worker.slots} slots, "
                f"{memory}, loaded in {seconds:.1f} s"
            )
            fields = {"event": "loaded", "worker": worker.id, "model": worker.model, "device": worker.device}
            return _Line(level=logging.INFO, text=text, fields={**fields, "slots": worker.slots})
        case Failed(claim=claim, reason=reason, error=error):
            return _of_image(logging.WARNING, claim, "failed", f"failed: {reason}", reason, error)
        case PutBack(claim=claim, reason=reason, error=error) if reason:
            return _of_image(logging.WARNING, claim, "put back", f"put back: {reason}", reason, error)
        case Interrupted(claim=claim):
            return _of_image(logging.INFO, claim, "interrupted", "interrupted: it ends with what there is")
        case Lost(claim=claim, cancelled=True):
            return _of_image(logging.INFO, claim, "cancelled", "stopped: its job was cancelled")
        case Lost(claim=claim, holder=holder):
            now = f"; {holder} has it now" if holder else ""
            return _of_image(logging.WARNING, claim, "lease lost", f"stopped: its lease was lost{now}")
        case TooLate(claim=claim):
            return _of_image(logging.WARNING, claim, "too late", "reported in vain: another attempt has it")
        case TakenBack(leases=leases):
            counts = {
                "handed back": leases.handed_back,
                "suspected, as their workers died": leases.suspects,
                "failed, as too many workers died on them": leases.failed,
            }
            told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
            return _Line(
                level=logging.WARNING, text=f"leases ran out: {told}", fields={"event": "taken back"}
            )
        case OutOfMemory(slots=slots, put_back=count):
            text = f"out of memory: {slots} slots for now, {count} images wait again"
            return _Line(level=logging.WARNING, text=text, fields={"event": "out of memory", "slots": slots})
        case OutOfService(reason=reason, detail=detail):
            text = f"claims nothing more for now: {detail}"
            return _Line(level=logging.ERROR, text=text, fields={"event": "out of service", "reason": reason})
        case BackInService(seconds=seconds):
            text = f"claims again, after {seconds:.0f} s"
            return _Line(level=logging.INFO, text=text, fields={"event": "back in service"})
        case Warned(text=text, like=like, error=error):
            return _Line(level=logging.WARNING, text=text, error=error, like=like)
        case Ended(worker=worker):
            return _Line(level=logging.INFO, text=f"{worker.id} has ended", fields={"event": "ended"})
    return None


def _of_image(
    level: int, claim: Claim, event: str, what: str, reason: str = "", error: Exception | None = None
) -> _Line:
    fields = {
        "event": event,
        "job": claim.job_id,
        "tenant": claim.tenant,
        "image": claim.index,
        "attempt": claim.attempt,
    }
    return _Line(
        level=level,
        text=f"image {claim.index} of job {claim.job_id}: {what}",
        fields={**fields, "reason": reason} if reason else fields,
        error=error,
    )
