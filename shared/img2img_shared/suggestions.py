"""Suggestions for unknown names, for refusals."""

from collections.abc import Iterable
from difflib import get_close_matches

#: names that a message lists
LISTED = 30
#: characters of a name that are compared: a sender's may be endless
_COMPARED = 100
#: how alike two names are, from 0 to 1, of which one may be meant by the other
_ALIKE = 0.45
#: characters that a name has most likely right: of the names that are alike, those that begin so come first
_BEGINNING = 4


def one_of(names: Iterable[str]) -> str:
    """
    >>> one_of(["png", "jpeg", "webp"])
    'png, jpeg or webp'
    """
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The reason of a refusal: which name may be meant, and which names exist.

    >>> unknown_name("format", "jpg", ["webp", "jpeg"])
    'unknown format; did you mean jpeg? Known are webp, jpeg'
    """
    names = list(known)
    if not names:  # which only the files of workers may be
        place = "put it into their IMG2IMG_MODELS_DIR (see docs/models.md)"
        return f"unknown {kind}; the workers have none: {place}, or leave it out"
    folded = {each.lower(): each for each in reversed(names)}
    wanted = name[:_COMPARED].lower()
    near = [folded[each] for each in get_close_matches(wanted, folded, 3, _ALIKE)]
    near.sort(key=lambda each: not each.lower().startswith(wanted[:_BEGINNING]))
    meant = f"did you mean {one_of(near)}?" if near else ""
    if meant and len(names) > LISTED:
        return f"unknown {kind}; {meant}"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    listed = ", ".join(names[:LISTED]) + more
    return f"unknown {kind}; {meant} Known are {listed}" if meant else f"unknown {kind}; use {listed}"
