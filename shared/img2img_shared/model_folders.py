"""Folders of models as people have them: folders in folders, symbolic links, endings in any case."""

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path | None, endings: tuple[str, ...]) -> Iterator[Path]:
    """The files in `folder` and below that end like that: a folder's own first, by name.

    Symbolic links are followed, into each folder once. What is hidden, a folder that cannot be read, and what
    is no file (a pipe, whose reader would wait for ever) is passed over.

    Args:
        folder: None, or no folder at all: there are none.
        endings: in lower case, with their dots.
    """
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder or "", followlinks=True) if folder else ():
        real = os.path.realpath(parent)
        # emptied in place: os.walk goes where this says
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        for name in sorted(names):
            path = Path(parent, name)
            if name.lower().endswith(endings) and not name.startswith(".") and not _is_other(path):
                yield path


def _is_other(path: Path) -> bool:
    """Whether there is something that is no file; who reads a link that leads nowhere is told so."""
    return path.exists() and not path.is_file()
