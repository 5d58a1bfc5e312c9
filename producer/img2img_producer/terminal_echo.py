"""Keeps the terminal from writing "^C" into a live display."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_control_characters() -> Iterator[None]:
    """A context in which the terminal shows no ^C when one is typed."""
    try:
        import termios

        before = termios.tcgetattr(sys.stdin)
    except (ImportError, OSError, ValueError):  # not on this system, or not at a terminal
        yield
        return
    local_modes = 3
    quiet = list(before)
    quiet[local_modes] &= ~termios.ECHOCTL
    try:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, quiet)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
