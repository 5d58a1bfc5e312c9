"""What the engine counts of its work."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class Counts:
    """What the engine has done so far."""

    #: model calls
    calls: int = 0
    #: rows of these calls that were some image's, and that were padding
    rows: int = 0
    padding: int = 0
    #: model calls of single images, of all their rows
    image_calls: int = 0
