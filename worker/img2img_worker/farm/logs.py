"""Logging that texts of users or damaged files cannot forge: what is not printable is escaped."""

import json
import logging
import time
from datetime import UTC, datetime
from typing import Any

from img2img_shared.errors import one_line

#: seconds for which a warning is not written again, but counted
REPEATS = 60.0


class OneLineFormatter(logging.Formatter):
    """One line per record, whatever its message quotes; the lines of a traceback are indented.

    So no user's text can look like another record, or reach a terminal as an escape sequence.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the base class' name
        """The record's own line."""
        return one_line(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, and its traceback's."""
        first, *rest = super().format(record).split("\n")
        return "\n".join([first, *("  " + one_line(line) for line in rest)])


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, message, and the fields of an event (job, image, ...)."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as an object."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


class RepeatFilter(logging.Filter):
    """Passes a warning once in `REPEATS` seconds; the next of its kind says how many there were in between.

    Warnings are of one kind if they have the same text, or the same ``like`` in their record.
    """

    def __init__(self) -> None:
        super().__init__()
        #: by what they are like: when one was written, and how many were not since
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be logged."""
        if record.levelno < logging.WARNING or record.exc_info:
            return True
        like = getattr(record, "like", "") or record.getMessage()
        now = time.monotonic()
        written, count = self._seen.get(like, (-REPEATS, 0))
        if now - written < REPEATS:
            self._seen[like] = written, count + 1
            return False
        self._seen = {each: seen for each, seen in self._seen.items() if now - seen[0] < REPEATS}
        self._seen[like] = now, 0
        if count:
            record.msg = f"{record.getMessage()} ({count} more like this in the last {now - written:.0f} s)"
            record.args = None
        return True


def log_to_stderr(level: str, *, as_json: bool = False) -> None:
    """Set up logging for a program of the farm."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if as_json else OneLineFormatter())
    handler.addFilter(RepeatFilter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(True)  # Pillow's, of damaged files
