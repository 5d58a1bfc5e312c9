"""A worker's report with every beat: how much it does, and its last errors."""

import threading
import time
from collections import Counter, deque
from dataclasses import replace

import torch

from img2img_shared.records import WorkerReport
from img2img_worker.farm import memory
from img2img_worker.farm.events import Claimed, Event, Failed, Finished, LetGo, OutOfService, PutBack, Warned

#: seconds over which the rate is taken
WINDOW = 60.0
#: jobs that are named
JOBS = 8
#: characters of an error that are kept
ERROR = 300


class Reporter:
    """Counts what happens. `begun` is when the process was started, on the monotonic clock."""

    def __init__(self, device: torch.device, begun: float) -> None:
        self._device = device
        self._begun = begun
        self._lock = threading.Lock()
        self._in_hand: Counter[str] = Counter()
        self._ends: deque[float] = deque()
        self._done = self._failed = 0
        self._error: tuple[float, str] | None = None

    def __call__(self, event: Event) -> None:
        """Count an event."""
        with self._lock:
            match event:
                case Claimed(claim=claim):
                    self._in_hand[claim.job_id] += 1
                case LetGo(claim=claim):
                    self._in_hand[claim.job_id] -= 1
                    self._in_hand += Counter()  # those of which there are none are dropped
                case Finished():
                    self._done += 1
                    self._ends.append(time.monotonic())
                case Failed(claim=claim, reason=reason):
                    self._failed += 1
                    self._remember(f"image {claim.index} of job {claim.job_id}: {reason}")
                case PutBack(claim=claim, reason=reason) if reason:
                    self._remember(f"image {claim.index} of job {claim.job_id} put back: {reason}")
                case OutOfService(reason=text) | Warned(text=text):
                    self._remember(text)

    def report(self, trouble: str | None) -> WorkerReport:
        """The report as of now.

        Args:
            trouble: why it claims nothing; None: it does.
        """
        now = time.monotonic()
        used, total = memory.on_device(self._device)
        with self._lock:
            while self._ends and self._ends[0] < now - WINDOW:
                self._ends.popleft()
            report = WorkerReport(
                trouble=trouble,
                jobs=tuple(list(self._in_hand)[:JOBS]),
                done=self._done,
                failed=self._failed,
                rate=len(self._ends) * 60 / max(min(WINDOW, now - self._begun), 1.0),
                uptime=now - self._begun,
                memory=memory.resident(),
                device_memory=used,
                device_memory_total=total,
            )
            if self._error is None:
                return report
            when, text = self._error
            return replace(report, last_error=text, last_error_ago=now - when)

    def _remember(self, text: str) -> None:
        self._error = time.monotonic(), text[:ERROR]
