"""Log lines that nobody else can write: what users or damaged files say is spelt out in them."""

import logging

from img2img_shared.errors import one_line


class OneLineFormatter(logging.Formatter):
    """One line a record, whatever its message quotes; the lines of a traceback are indented.

    So no text of a user passes for a record of its own, or reaches a terminal as an escape sequence.
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


def log_to_stderr(level: str) -> None:
    """Set up logging for a program of the farm."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(True)  # Pillow's, of damaged files
