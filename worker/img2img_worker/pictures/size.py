"""Derives a result's size from its input's."""

from math import sqrt

from img2img_shared.param_groups.size_params import LEAST, MOST


def fitted_size(size: tuple[int, int], fit: int, *, native_side: int, multiple: int) -> tuple[int, int]:
    """(width, height) of the result for an input, as near to its shape as multiples allow.

    Args:
        size: (width, height) of the input, upright.
        fit: pixels of the longer side; 0: like the input, but with no more area than the checkpoint was
            trained on.
        native_side: pixels of a side of the squares that it was trained on.
        multiple: the number that sides are multiples of.

    >>> fitted_size((4000, 3000), 0, native_side=512, multiple=8)
    (592, 440)
    >>> fitted_size((300, 200), 0, native_side=512, multiple=8)
    (304, 200)
    >>> fitted_size((4000, 3000), 1024, native_side=512, multiple=8)
    (1024, 768)
    """
    width, height = size
    scale = fit / max(size) if fit else min(1.0, native_side / sqrt(width * height))
    scale = min(max(scale, LEAST / min(size)), MOST / max(size))
    sides = (max(LEAST, round(side * scale / multiple) * multiple) for side in size)
    width, height = sides
    return width, height
