"""Shows the progress of a job: as a live bar on a terminal, as lines in a log."""

import time
from contextlib import ExitStack
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from img2img_producer.pace import Pace
from img2img_producer.terminal_echo import without_control_characters
from img2img_shared.job import JobState
from img2img_shared.records import JobStatus

#: seconds, at least, between two plain lines
PAUSE = 2.0


class ProgressDisplay:
    """Shows a job on `console`: live if that is a terminal, otherwise as a line now and then.

    >>> with ProgressDisplay(console) as board:  # doctest: +SKIP
    ...     board.stored(10, of=100)
    ...     board.update(farm.status(job))
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Progress | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            whole = Column(no_wrap=True)  # in a narrow terminal the bar is what gives way
            self._live = Progress(
                TextColumn("{task.description}", table_column=whole),
                BarColumn(bar_width=None, table_column=Column(ratio=1)),
                MofNCompleteColumn(table_column=whole),
                TextColumn("{task.fields[more]}", table_column=whole),
                TimeElapsedColumn(table_column=whole),
                console=console,
                expand=True,
            )
            # not to be seen before there is something to say
            self._task = self._live.add_task("", total=None, more="", visible=False)
        self._last = ("", time.monotonic())
        self._waits_for: str | None = None
        self._pace = Pace()
        self._closing = ExitStack()

    def stored(self, count: int, of: int) -> None:
        """Show how many of a job's inputs are in the store."""
        if self._live is not None:
            self._live.update(self._task, description="storing", completed=count, total=of, visible=True)
        elif count == of:
            self._line(f"stored {count} input{'s' if count > 1 else ''}", now=True)
        else:
            self._line(f"stored {count} of {of} inputs")

    def update(self, status: JobStatus) -> None:
        """Show the job's status."""
        if status.waits_for != self._waits_for:
            self._waits_for = status.waits_for
            if status.waits_for:
                self._console.print(
                    f"it waits for {status.waits_for}", markup=False, highlight=False, soft_wrap=True
                )
        progress = status.done + status.failed + status.under_way
        if status.state is JobState.RUNNING and status.running:
            self._pace.see(time.monotonic(), progress)
        else:
            self._pace.forget()
        more = _more(status, self._to_go(status, status.n - status.cancelled - progress))
        if self._live is not None:
            self._live.update(
                self._task,
                description=_doing(status),
                completed=progress,
                total=status.n,
                more=more,
                visible=True,
            )
        else:
            line = f"{_doing(status)}: {status.done} of {status.n} done"
            self._line(f"{line}, {more}" if more else line, now=status.finished is not None)

    def _to_go(self, status: JobStatus, left: float) -> str:
        """The time to go by what was observed here, or else by the ledger; "" if neither can tell."""
        if (seen := self._pace.to_go(left)) is not None:
            return between(*seen)
        return remaining(status)

    def __enter__(self) -> "ProgressDisplay":
        if self._live is not None:
            self._closing.enter_context(without_control_characters())
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        self._closing.close()

    def _line(self, text: str, *, now: bool = False) -> None:
        last, at = self._last
        if text != last and (now or time.monotonic() - at >= PAUSE):
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
            self._last = (text, time.monotonic())


def duration(seconds: float) -> str:
    """ "42 s", "3 min 20 s", "21 min", "2 h 05 min" """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def speed(rate: float) -> str:
    """ "12 images/s", "1.4 images/s"; slower ones as "3.1 s/image", for a `rate` in images per second."""
    if rate >= 1:
        return f"{rate:.0f} images/s" if rate >= 10 else f"{rate:.1f} images/s"
    return f"{1 / rate:.0f} s/image" if rate <= 0.1 else f"{1 / rate:.1f} s/image"


def between(low: float, high: float) -> str:
    """ "40 s", "2 to 4 min", "50 s to 2 min": a range of seconds, as precise as it is known."""
    at_least, at_most = _roughly(low), _roughly(high)
    if at_least == at_most:
        return " ".join(at_least)
    unit = "" if at_least[1] == at_most[1] else f" {at_least[1]}"
    return f"{at_least[0]}{unit} to {' '.join(at_most)}"


def remaining(status: JobStatus) -> str:
    """How long a running job has to go, as far as the ledger can tell, else ""."""
    if status.eta is None or status.state is not JobState.RUNNING or not status.running:
        return ""  # the pace of a job that is paused, or whose workers went away, says nothing of its end
    spread = status.eta_spread or 0.0
    return between(status.eta - spread, status.eta + spread)


def _roughly(seconds: float) -> tuple[str, str]:
    if seconds < 57.5:
        return f"{max(1, round(seconds) if seconds < 10 else 5 * round(seconds / 5))}", "s"
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))}", "min"
    hours = seconds / 3600
    return (f"{hours:.0f}" if hours >= 10 else f"{hours:.1f}".removesuffix(".0")), "h"


def _doing(status: JobStatus) -> str:
    if status.state not in (JobState.PENDING, JobState.RUNNING):
        return str(status.state)
    # one that has begun waits too, where its worker went away
    return "rendering" if status.running or not status.pending else "waiting"


def _more(status: JobStatus, to_go: str) -> str:
    parts = []
    if status.failed:
        parts.append(f"{status.failed} failed")
    if status.cancelled:
        parts.append(f"{status.cancelled} cancelled")
    if status.state is not JobState.RUNNING:
        return ", ".join(parts)  # what was fast once is over
    if status.steps and status.running == 1:
        parts.append("step {} of {}".format(*status.steps))
    if status.rate and status.done + status.failed > 1:
        parts.append(speed(status.rate))
    if to_go:
        parts.append(f"{to_go} to go")
    return ", ".join(parts)
