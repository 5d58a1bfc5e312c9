"""A worker process for each device of a machine: started, watched, and restarted if it dies."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

from img2img_shared.interrupts import ending_signals

log = logging.getLogger("img2img_worker")

#: exit status of a worker whose options, model or farm are refused: started again, it would be again
REFUSED = 2
#: seconds before a process that died is started again: the first pause doubles up to the longest,
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
#: and is the first again after one that lived so long
SOUND = 300.0
#: Linux' number of the order to send a process a signal when its parent dies
_PARENT_DEATH_SIGNAL = 1


class DeviceProcesses:
    """Runs ``COMMAND --device NAME`` for each device; a device that is named twice gets two processes.

    A process that ends with status 0 was drained or stopped, and is not restarted. One that is refused ends
    all. Any other is restarted, with growing pauses.

    Args:
        metrics: HOST:PORT at which the first serves its metrics; each other uses the next port. "": nowhere.
    """

    def __init__(self, command: Sequence[str], devices: Sequence[str], metrics: str = "") -> None:
        self._command = command
        self._devices = devices
        self._metrics = metrics
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        #: by the number of their device
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._is_refused = False

    def run(self) -> int:
        """Run until all have ended; returns the exit status. Signals to end are passed on to each."""
        for name in ending_signals():
            signal.signal(name, self._on_signal)
        supervisors = [
            threading.Thread(target=self._keep, args=[number]) for number in range(len(self._devices))
        ]
        for supervisor in supervisors:
            supervisor.start()
        for supervisor in supervisors:
            while supervisor.is_alive():
                supervisor.join(0.5)  # in between, signals are handled
        return REFUSED if self._is_refused else 0

    def _on_signal(self, name: int, _: FrameType | None) -> None:
        # in a thread: a signal handler must not take a lock that the code it interrupts may hold
        threading.Thread(target=self._end, args=[name]).start()

    def _end(self, name: int) -> None:
        """Start no more processes, and send the signal to those that run."""
        with self._lock:
            self._stopping.set()
            for process in self._running.values():
                process.send_signal(name)

    def _keep(self, number: int) -> None:
        pause = FIRST_PAUSE
        while (process := self._start(number)) is not None:
            begun = time.monotonic()
            status = process.wait()
            with self._lock:
                del self._running[number]
            if status == REFUSED:
                self._is_refused = True
                self._end(signal.SIGTERM)
            if status == 0 or self._stopping.is_set():
                return
            if time.monotonic() - begun > SOUND:
                pause = FIRST_PAUSE
            told = f"by signal {-status}" if status < 0 else f"with exit status {status}"
            device = self._devices[number]
            log.error("the worker on %s ended %s; it is started again in %.0f s", device, told, pause)
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _start(self, number: int) -> subprocess.Popen[bytes] | None:
        """Start the process for the device of that number, unless all are to end."""
        with self._lock:
            if self._stopping.is_set():
                return None
            self._running[number] = process = subprocess.Popen(  # noqa: S603  (our own program)
                [*self._command, "--device", self._devices[number]],
                env={**os.environ, "IMG2IMG_METRICS": self._metrics_of(number)},
                process_group=0,  # a terminal's Ctrl-C comes through us, once
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        return process

    def _metrics_of(self, number: int) -> str:
        host, _, port = self._metrics.rpartition(":")
        return f"{host}:{int(port) + number}" if self._metrics else ""


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)
