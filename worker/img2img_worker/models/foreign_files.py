"""Files that anybody may have made: whatever comes up as one is read says that it is damaged."""

from collections.abc import Iterator
from contextlib import contextmanager

from img2img_shared.errors import FarmError


@contextmanager
def reading(told: str = "not readable ({})") -> Iterator[None]:
    """Turns what is raised into `ValueError`, but for what the file is not to blame for.

    Readers raise what they happen to meet, from TypeError to errors of their own, and one file must not stop
    a worker that has others.

    Args:
        told: what is said then, with a place for the first line of the error.
    """
    try:
        yield
    except (OSError, MemoryError, ValueError, FarmError):
        raise
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise ValueError(told.format(lines[0])) from None
