"""Filters pip's output during an installation: what it downloads, the size of each, and the sum.

python -u -m pip install ... | python tools/downloads.py
"""

import re
import sys
from collections.abc import Iterable, Iterator

_DOWNLOAD = re.compile(r"\s*Downloading (?P<file>\S+) \((?P<size>[\d.]+) (?P<unit>bytes|kB|MB|GB)\)")
#: the part of a file's name after the version
_KIND = re.compile(r"-(cp|py)\d\S*\.whl$|\.tar\.gz$")
_MEGABYTES = {"bytes": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}


def shown(lines: Iterable[str]) -> Iterator[str]:
    """The lines to show, as pip's lines come.

    >>> list(shown(["  Downloading ruff-0.17.6-py3-none-any.whl (10.6 MB)"]))
    ['  ruff-0.17.6 (10.6 MB)']
    """
    megabytes = 0.0
    for line in lines:
        if (match := _DOWNLOAD.match(line)) and not match["file"].endswith(".metadata"):
            megabytes += float(match["size"]) * _MEGABYTES[match["unit"]]
            yield f"  {_KIND.sub('', match['file'])} ({match['size']} {match['unit']})"
        elif line.startswith("Installing collected packages"):
            before = f"{megabytes:.0f} MB were downloaded. " if megabytes else ""
            yield f"{before}Installing; this takes a minute or two ..."


if __name__ == "__main__":
    for line in shown(iter(sys.stdin.readline, "")):
        print(line, flush=True)
