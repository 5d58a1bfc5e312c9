"""Processes that end with the test that started them, however it ends."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process, started as subprocess does; killed at the end if it still runs."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def ended_unless_ready(process: subprocess.Popen[Any]) -> Iterator[None]:
    """In this context a process gets ready; if that fails, it is killed."""
    try:
        yield
    except BaseException:
        with process:
            process.kill()
        raise
