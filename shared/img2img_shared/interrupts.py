"""Ctrl-C while a program is only being loaded, which takes a second, or with torch several."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


def end_on_interrupt() -> None:
    """From now on Ctrl-C ends the process at once, as it ends a program in C: there is nothing to tidy up.

    What ignores it, as a job in the background does, goes on so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def loading() -> Iterator[None]:
    """Within it Ctrl-C ends the process at once: else Python would print where in the imports it was.

    After it Ctrl-C is a KeyboardInterrupt, unless the process ignores it.
    """
    end_on_interrupt()
    yield
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def hold_interrupts() -> None:
    """Ctrl-C is held back until the next `end_on_interrupt`: by a process that becomes another program."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
