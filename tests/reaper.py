"""Ends the processes of a test run that was ended before it could do so: by SIGTERM, SIGKILL, or a crash.

``python tests/reaper.py MARK`` waits for its standard input to end, which it does with the process that holds
the other end, and kills whatever inherited the mark in its environment.
"""

import os
import signal
import sys
import uuid
from contextlib import suppress
from pathlib import Path

MARK = "IMG2IMG_TEST_RUN"


def watch_over_this_process() -> None:
    """From now on, processes that this one starts end with it."""
    mark = os.environ[MARK] = f"{os.getpid()}-{uuid.uuid4().hex}"
    end, _ = os.pipe()  # the other end stays open for as long as we live, and no child inherits it
    os.posix_spawn(
        sys.executable,
        [sys.executable, str(Path(__file__)), mark],
        {},
        file_actions=[(os.POSIX_SPAWN_DUP2, end, 0)],
        setsid=True,  # so that it gets no Ctrl-C
    )
    os.close(end)


def marked(mark: str) -> set[int]:
    """The processes that inherited `mark`, and those that these have started without it."""
    wanted = f"{MARK}={mark}".encode()
    processes = list(Path("/proc").glob("[0-9]*"))
    found = {int(each.name) for each in processes if wanted in _read(each / "environ").split(b"\0")}
    parents = {int(each.name): _parent(each) for each in processes}
    while more := {child for child, parent in parents.items() if parent in found and child not in found}:
        found |= more
    return found


def _parent(process: Path) -> int | None:
    facts = _read(process / "stat").rpartition(b")")[2].split()
    return int(facts[1]) if facts else None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # it has ended, or is another user's
        return b""


def main() -> None:
    """Wait, then kill until nothing is left that could start more."""
    sys.stdin.read()
    while left := marked(sys.argv[1]):
        held = {process: handle for process in left if (handle := _handle(process)) is not None}
        # the number of a process that has ended may be reused, but not while a pidfd holds it: so check again
        for process in held.keys() & marked(sys.argv[1]):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(held[process], signal.SIGKILL)
        for handle in held.values():
            os.close(handle)


def _handle(process: int) -> int | None:
    try:
        return os.pidfd_open(process)
    except ProcessLookupError:
        return None


if __name__ == "__main__":
    main()
