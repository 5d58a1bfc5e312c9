"""How far a job is, for whoever looks at the terminal: a live bar, or plain lines in a log."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from img2img_shared.job import JobState
from img2img_shared.records import JobStatus

#: seconds, at least, between two plain lines
PAUSE = 2.0


class ProgressDisplay:
    """Shows a job on `console`: live where that is a terminal, else as a line now and then.

    >>> with ProgressDisplay(console) as board:  # doctest: +SKIP
    ...     board.stored(10, of=100)
    ...     board.update(farm.status(job))
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            times = (TextColumn("{task.fields[more]}"), TimeElapsedColumn())
            self._live = Progress(*columns, *times, console=console, transient=False)
            # not to be seen before there is something to say
            self._task = self._live.add_task("", total=None, more="", visible=False)
        self._last = ("", time.monotonic())
        self._waits_for: str | None = None

    def stored(self, count: int, of: int) -> None:
        """So many of a job's inputs are in the store."""
        if self._live is not None:
            self._live.update(self._task, description="storing", completed=count, total=of, visible=True)
        elif count == of:
            self._line(f"stored {count} input{'s' if count > 1 else ''}", now=True)
        else:
            self._line(f"stored {count} of {of} inputs")

    def update(self, status: JobStatus) -> None:
        """The job stands like this now."""
        if status.waits_for != self._waits_for:
            self._waits_for = status.waits_for
            if status.waits_for:
                self._console.print(
                    f"it waits for {status.waits_for}", markup=False, highlight=False, soft_wrap=True
                )
        if self._live is not None:
            ended = status.done + status.failed
            self._live.update(
                self._task,
                description=_doing(status),
                completed=ended,
                total=status.n,
                more=_more(status),
                visible=True,
            )
        else:
            line = f"{_doing(status)}: {status.done} of {status.n} done"
            more = _more(status)
            self._line(f"{line}, {more}" if more else line, now=status.finished is not None)

    def __enter__(self) -> "ProgressDisplay":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def _line(self, text: str, *, now: bool = False) -> None:
        last, at = self._last
        if text != last and (now or time.monotonic() - at >= PAUSE):
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
            self._last = (text, time.monotonic())


def duration(seconds: float) -> str:
    """ "42 s", "3 min 20 s", "2 h 05 min" """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _doing(status: JobStatus) -> str:
    if status.state not in (JobState.PENDING, JobState.RUNNING):
        return str(status.state)
    # one that has begun waits too, where its worker went away
    return "rendering" if status.running or not status.pending else "waiting"


def _more(status: JobStatus) -> str:
    parts = []
    if status.failed:
        parts.append(f"{status.failed} failed")
    if status.cancelled:
        parts.append(f"{status.cancelled} cancelled")
    if status.state is not JobState.RUNNING:
        return ", ".join(parts)  # what was fast once is over
    if status.rate:
        parts.append(f"{status.rate:.2g} images/s" if status.rate < 10 else f"{status.rate:.0f} images/s")
    if status.eta is not None:
        parts.append(f"{duration(status.eta)} to go")
    return ", ".join(parts)
