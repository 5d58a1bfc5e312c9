"""Processes that end with the test that started them, whatever becomes of it."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process, as subprocess starts it; killed at the end, should it still run."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def ended_unless_ready(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Within it a process gets ready; one that does not is killed."""
    try:
        yield
    except BaseException:
        with process:
            process.kill()
        raise
