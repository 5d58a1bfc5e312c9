"""Finds files of several pictures, of which the farm renders the first, to tell the user in advance."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from img2img_producer.inputs import Picture
from img2img_shared.errors import one_line

#: files that are named
NAMED = 5
#: bytes in which all but a GIF tell
_BEGINNING = 16 * 1024
#: how files of several pictures begin: PNG, WebP, AVIF (as in files.js of the page)
_MOVING = re.compile(
    rb"\x89PNG(?:(?!IDAT).)*?acTL|RIFF.{4}WEBPVP8X.*?ANIM.{4}|.{4}ftypavis",
    re.DOTALL,
)
_ENDINGS = frozenset((".gif", ".png", ".webp", ".avif"))


def note_on_moving(pictures: Iterable[Picture]) -> Iterator[str]:
    """What to say of those among `pictures` whose files hold several."""
    files = dict.fromkeys(each.image for each in pictures if isinstance(each.image, str | Path))
    found = [str(each) for each in files if _moves(Path(each))]
    if found:
        named = ", ".join(map(one_line, found[:NAMED]))
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        yield (
            f"only the first picture of {named}{more} will be rendered; "
            "for an animation, split it into frames: ffmpeg -i FILE FOLDER/%05d.png"
        )


def _moves(path: Path) -> bool:
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        return False
    try:
        with path.open("rb") as file:
            if ending == ".gif":
                return _gif_pictures(file.read()) > 1
            return _MOVING.match(file.read(_BEGINNING)) is not None
    except OSError:
        return False  # which is said where it is sent


def _gif_pictures(data: bytes) -> int:
    """How many pictures a GIF has, by its blocks (the GIF89a specification); what is broken ends it."""
    found = 0
    try:
        at = 13 + _colours(data[10])
        while (kind := data[at]) in b",!":
            found += kind == ord(",")
            at += 11 + _colours(data[at + 9]) if kind == ord(",") else 2
            while size := data[at]:
                at += 1 + size
            at += 1
    except IndexError:
        pass
    return found


def _colours(flags: int) -> int:
    """Bytes of the table of colours that these flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
