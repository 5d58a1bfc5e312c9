"""What infotexts of older versions of A1111 mean, in the names of 1.10.1."""

import re
from collections.abc import Mapping
from typing import Any

from img2img_shared.hires import old_first_size

#: versions, with the number of changes since; -1 stands for a release candidate
_1_6, _1_7_225, _1_8 = (1, 6, 0, 0), (1, 7, 0, 225), (1, 8, 0, 0)
_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:-(?:(rc)|(\d+))(?:-.*)?)?", re.ASCII | re.IGNORECASE)


def with_inferred(pairs: Mapping[str, str]) -> dict[str, Any]:
    """An infotext's pairs, and what they say in the names of older versions, or by their version.

    A hypernetwork had an entry of its own, a hires fix told its first size, and what has changed meanwhile
    is an option now. As in A1111; of other programs' versions nothing is inferred.
    """
    found: dict[str, Any] = dict(pairs)
    if "Hypernet" in pairs:
        found["Prompt"] += f"<hypernet:{pairs['Hypernet']}:{pairs.get('Hypernet strength', '1.0')}>"
    if "First pass size-1" in pairs:
        found |= _of_old_hires(pairs)
    version = version_of(pairs)
    if version is None:
        return found
    if version < _1_6 and "[" in found["Prompt"]:
        found["Old prompt editing timelines"] = True
    if version < _1_6 and pairs.get("Sampler") in ("DDIM", "PLMS"):
        found["Pad conds v0"] = True
    if version < _1_7_225:
        found["Downcast alphas_cumprod"] = True
    if version < _1_8 and "Refiner" in pairs:
        found["Refiner switch by sampling steps"] = True
    return found


def version_of(pairs: Mapping[str, Any]) -> tuple[int, int, int, int] | None:
    """The version of A1111 that wrote an infotext, and how many changes came after it; None: unknown.

    >>> version_of({"Version": "v1.7.0-133-gde03882d"})
    (1, 7, 0, 133)
    """
    match = _VERSION.fullmatch(pairs.get("Version", ""))
    if match is None:
        return None
    major, minor, patch, candidate, changes = match.groups()
    return int(major), int(minor), int(patch or 0), -1 if candidate else int(changes or 0)


def _of_old_hires(pairs: Mapping[str, str]) -> dict[str, int]:
    """The sizes of both passes, where the text has the first one's beside the picture's; 0x0: as it was."""
    try:
        size = int(pairs.get("Size-1", 512)), int(pairs.get("Size-2", 512))
        first = int(pairs["First pass size-1"]), int(pairs["First pass size-2"])
    except (KeyError, ValueError):
        return {}
    if 0 in first and min(size) > 0:
        first = old_first_size(*size)
    return {
        "Size-1": first[0],
        "Size-2": first[1],
        "Hires resize-1": size[0],
        "Hires resize-2": size[1],
    }
