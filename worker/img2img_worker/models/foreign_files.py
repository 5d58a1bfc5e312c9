"""Turns whatever is raised while a foreign file is read into one error, which says that it is damaged."""

from collections.abc import Iterator
from contextlib import contextmanager

from img2img_shared.errors import FarmError


@contextmanager
def reading(message: str = "not readable ({})") -> Iterator[None]:
    """In this context, turn errors into `ValueError`, except those that are not the file's fault.

    Readers raise anything from TypeError to errors of their own, and one file must not stop a worker.

    Args:
        message: of the `ValueError`, with a place for the first line of the error.
    """
    try:
        yield
    except (OSError, MemoryError, ValueError, FarmError):
        raise
    except Exception as error:
        raise ValueError(message.format(first_line(error))) from None


def first_line(error: Exception) -> str:
    """What an error says, without the lines of details that libraries append; its type if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
