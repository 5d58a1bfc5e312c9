"""That masks have the sizes of their pictures: seen from the files' heads, before anything is uploaded."""

from collections.abc import Iterable
from functools import lru_cache

from img2img_producer.inputs import Picture, Source
from img2img_shared.errors import Refused, Summary


def check_mask_sizes(pictures: Iterable[Picture], mask: Source | None) -> None:
    """That the mask of each picture, else `mask`, is as large as it.

    A1111 takes any, but fits none to its picture: it repaints somewhere else. What has no size that can be
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
    """(width, height) as the head of a picture's file tells it; None: it does not."""
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
