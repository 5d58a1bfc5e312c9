"""Checks that masks have the sizes of their pictures, by the files' headers, before anything is uploaded."""

from collections.abc import Iterable
from functools import lru_cache

from img2img_producer.inputs import Picture, Source
from img2img_shared.errors import Refused, Summary


def check_mask_sizes(pictures: Iterable[Picture], mask: Source | None) -> None:
    """Check that the mask of each picture, or else `mask`, is as large as the picture.

    A1111 accepts any, but fits none to its picture, and repaints elsewhere. A picture whose size cannot be
    read here is left to the worker.

    Raises:
        Refused: names the mask, its picture, and both sizes.
    """
    for picture in pictures:
        own = picture.pictures.get("mask", mask)
        if own is None or picture.image is None:
            continue
        size, wanted = _size(own), _size(picture.image)
        if size and wanted and sorted(size) != sorted(wanted):  # one of them may be turned by its EXIF
            reason = f"give a mask of its picture's size; {picture.path or 'that'} has {_size_text(wanted)}"
            raise Refused("mask", Summary(f"{own!s} of {_size_text(size)}"), reason)


@lru_cache(maxsize=1024)
def _size(source: Source) -> tuple[int, int] | None:
    """(width, height) by the header of a picture's file, or None."""
    import imagesize  # by who has masks only

    if isinstance(source, bytes):
        return None
    try:
        size = imagesize.get(str(source))
    except OSError:
        return None
    return size if min(size) > 0 else None


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]} pixels"
