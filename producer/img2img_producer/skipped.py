"""Finds the files in named folders and globs that will not be rendered, to tell the user in advance."""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path

from img2img_producer.inputs import EXTENSIONS, OF_VIDEO, PLUGINS, VIDEOS
from img2img_shared.errors import one_line

#: files that are looked at: who names a whole disk is not kept waiting
LOOKED_AT = 20_000
#: files of one kind that are named
NAMED = 5

_BELOW = "in folders below; --recursive takes these too"
_OTHER = "no pictures, by their names"
_NOWHERE = "a link to nothing"


def skipped_files(names: Iterable[str], taken: Collection[Path]) -> dict[str, list[Path]]:
    """The files in folders (and their subfolders) and globs besides those `taken`, by why they are skipped.

    Hidden files are left out.
    """
    known = set(taken)
    skipped: dict[str, list[Path]] = {}
    for path, is_below in islice(_files(names), LOOKED_AT):
        if path not in known:
            skipped.setdefault(_why(path, is_below=is_below), []).append(path)
    return skipped


def describe(skipped: dict[str, list[Path]]) -> str:
    """A summary in one line: how many, and the first of each kind by name.

    >>> describe({"no pictures, by their names": [Path("a/notes.txt")]})
    '1 file skipped: a/notes.txt (no pictures, by their names)'
    """
    count = sum(len(paths) for paths in skipped.values())
    kinds = []
    for why in sorted(skipped, key=lambda why: why == _OTHER):  # what might be missed comes first
        paths = skipped[why]
        more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
        kinds.append(", ".join(one_line(str(path)) for path in paths[:NAMED]) + f"{more} ({why})")
    return f"{count} file{'s' if count > 1 else ''} skipped: {'; '.join(kinds)}"


def _files(names: Iterable[str]) -> Iterator[tuple[Path, bool]]:
    """The files in folders and globs, and whether each is deeper than was named."""
    for name in names:
        root = Path(name).expanduser()
        if root.is_dir():
            for folder, below, files in os.walk(root):
                below[:] = sorted(each for each in below if not each.startswith("."))
                for file in sorted(files):
                    if not file.startswith("."):
                        yield Path(folder, file), Path(folder) != root
        elif not root.exists() and re.search(r"[*?[]", name):
            for path in sorted(Path(root.anchor).glob(str(root.relative_to(root.anchor)))):
                if path.is_file() and not path.name.startswith("."):
                    yield path, False


def _why(path: Path, *, is_below: bool) -> str:
    ending = path.suffix.lower()
    if ending in EXTENSIONS and path.is_symlink() and not path.exists():
        return _NOWHERE
    if ending in PLUGINS:
        kind, _ = PLUGINS[ending]
        return f"{kind}: pip install 'img2img-farm[photos]', here and where it is rendered"
    if ending in VIDEOS:
        return OF_VIDEO
    return _BELOW if is_below and ending in EXTENSIONS else _OTHER
