"""Finds files in folders of models, which may be nested, linked, and have endings in any case."""

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path | None, endings: tuple[str, ...]) -> Iterator[Path]:
    """The files in `folder` and its subfolders with such endings: a folder's own first, by name.

    Symbolic links are followed, into each folder once. Hidden files, folders that cannot be read, and pipes
    and the like (whose reader would wait forever) are skipped.

    Args:
        folder: if it is None, or not a folder, there are none.
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
    """Whether something other than a file is there; reading a link that leads nowhere gives an error."""
    return path.exists() and not path.is_file()
