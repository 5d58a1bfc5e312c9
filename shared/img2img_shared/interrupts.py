"""The signals that end programs: Ctrl-C while one is still loading, and what ends a service."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


def ending_signals() -> list[signal.Signals]:
    """The signals that tell a service to end; that its terminal has gone is one, unless it ignores that."""
    found = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        found.append(signal.SIGHUP)
    return found


def end_on_interrupt() -> None:
    """From now on, Ctrl-C ends the process at once, as it ends a C program: there is nothing to clean up.

    A program loads for a second, or several with torch.

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
