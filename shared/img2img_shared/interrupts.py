"""Ctrl-C while a program is still loading, which takes a second, or several with torch."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


def end_on_interrupt() -> None:
    """From now on, Ctrl-C ends the process at once, as it ends a C program: there is nothing to clean up.

    A process that ignores it, such as a background job, continues to do so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def loading() -> Iterator[None]:
    """Within the context, Ctrl-C ends the process at once, without a traceback of imports.

    Afterwards Ctrl-C is a KeyboardInterrupt, unless the process ignores it.
    """
    end_on_interrupt()
    yield
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def hold_interrupts() -> None:
    """Hold Ctrl-C back until the next `end_on_interrupt`, in a process that becomes another program."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
