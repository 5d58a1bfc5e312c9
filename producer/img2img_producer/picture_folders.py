"""Nested folders: their pictures, each with its place among them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from img2img_producer.inputs import Picture, find_paired, pictures_among


def pictures_below(folder: Path, out: Path | None = None) -> Iterator[Picture]:
    """The pictures in a folder and in those below it, in natural order; hidden folders are left out.

    `Picture.folder` is the picture's subfolder of `folder`, so that its outputs go to the same subfolder of
    theirs. Links to folders are followed, each folder once.

    Args:
        out: the folder of the outputs, which are not inputs, though it may be below `folder`.
    """
    seen = set() if out is None else {out.resolve()}
    for name, below, files in os.walk(folder, followlinks=True):
        here = Path(name)
        if here.resolve() in seen:
            below.clear()
            continue
        seen.add(here.resolve())
        below[:] = sorted(each for each in below if not each.startswith("."))
        place = here.relative_to(folder).as_posix()
        for path in pictures_among(here / each for each in files):
            yield Picture(image=path, folder=None if place == "." else place)


def pair(pictures: Sequence[Picture], role: str, folder: Path, field: str, noun: str) -> None:
    """Give each picture the one with the same stem in the same subfolder of `folder`.

    Args:
        field, noun: names for `folder`, and for its pictures, in messages.

    Raises:
        Refused: no such folder, or a picture that has none, or two.
    """
    by_place: dict[str, list[Picture]] = {}
    for picture in pictures:
        by_place.setdefault(picture.folder or "", []).append(picture)
    for place, group in by_place.items():
        found = find_paired([Path(str(picture.image)) for picture in group], folder / place, field, noun)
        for picture, path in zip(group, found, strict=True):
            picture.pictures[role] = path
