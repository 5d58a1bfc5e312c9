"""The mask through which the result of soft inpainting shows: where it has changed the picture."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from img2img_shared.modes import ResizeMode
from img2img_shared.params import Params
from img2img_worker.pictures.resize import resize

Cells = NDArray[np.float32]

#: cells that a filter covers along each side, and the standard deviation of their weights
_REACH, _DEVIATION = 2, 1.5
#: radius of the blur of what is enlarged from cells, in pixels
_BLUR = 4


def change(before: Cells, after: Cells) -> Cells:
    """How far each cell has moved from one latent [C, h, w] to the other, [h, w]."""
    distances: Cells = np.sqrt(np.square(after - before).sum(axis=0, dtype=np.float32))
    return distances


def soft_opening(changes: Cells, mask: Cells, params: Params) -> Image.Image:
    """L, of the render's size, 255 where the result shows. (A1111: ``apply_adaptive_masks``.)

    Args:
        changes, mask: [h, w], of `change`, and 1 = repaint.
    """
    # first spread to neighbours, then without isolated cells
    spread = window_mean(window_mean(changes, 0.9, 1.0), 0.25, 0.75)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.nan_to_num(spread / _half_way(mask, params), nan=0.0, posinf=np.inf)
        original = 1 / (1 + ratio ** np.float32(params.composite_difference_contrast))
    shown = (255 * (1 - _smoother_step(original))).astype(np.uint8)
    opening = resize(Image.fromarray(shown), ResizeMode.RESIZE_AND_FILL, params.width, params.height)
    return opening.filter(ImageFilter.GaussianBlur(_BLUR))


def window_mean(cells: Cells, low: float, high: float) -> Cells:
    """For each cell, the mean of the cells around it between two quantiles, weighted by nearness.

    The quantiles enclose at least the weight of one cell. (A1111: ``weighted_histogram_filter``.)
    """
    height, width = cells.shape
    weights = _weights()
    side = len(weights)
    padded = np.pad(cells.astype(np.float64), _REACH)
    inside = np.pad(np.ones_like(cells, np.float64), _REACH)
    views = [(row, column) for row in range(side) for column in range(side)]
    values = np.stack([padded[row : row + height, column : column + width] for row, column in views])
    shares = np.stack(
        [weights[row, column] * inside[row : row + height, column : column + width] for row, column in views]
    )
    order = values.argsort(axis=0, kind="stable")
    values, shares = (np.take_along_axis(each, order, axis=0) for each in (values, shares))
    ends = shares.cumsum(axis=0)
    start, end = _window(ends[-1], low, high)
    taken = np.clip(np.minimum(ends, end) - np.maximum(ends - shares, start), 0, None)
    mean: Cells = ((values * taken).sum(axis=0) / taken.sum(axis=0)).astype(np.float32)
    return mean


def _window(
    total: NDArray[np.float64], low: float, high: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The window's two ends, between 0 and `total`, with a distance of at least 1."""
    start, end = low * total, high * total
    middle, is_narrow = (start + end) / 2, end - start < 1
    start, end = np.where(is_narrow, middle - 0.5, start), np.where(is_narrow, middle + 0.5, end)
    sticks_out = is_narrow & (end > total)
    return np.where(sticks_out, total - 1, start), np.where(sticks_out, total, end)


def _weights() -> NDArray[np.float64]:
    """A Gaussian [5, 5], lowered and scaled so that it is 0 one cell beyond its edges and 1 in the middle."""
    places = np.arange(-_REACH, _REACH + 1, dtype=np.float64)
    squares = places[:, None] ** 2 + places[None] ** 2
    beyond = np.exp(-(((_REACH + 1) / _DEVIATION) ** 2))
    weights: NDArray[np.float64] = np.maximum((np.exp(-squares / _DEVIATION**2) - beyond) / (1 - beyond), 0)
    return weights


def _half_way(mask: Cells, params: Params) -> Cells:
    """The change at which half of the original shows; the mask lowers it where it is open."""
    influence = params.composite_mask_influence
    closed = 1 - np.clip(mask, 0, 1) ** np.float32(params.mask_blend_scale / 2)
    odds = 0.5 * (1 - influence) + closed * influence
    threshold: Cells = (params.composite_difference_threshold * (odds / (1.00001 - odds))).astype(np.float32)
    return threshold


def _smoother_step(x: Cells) -> Cells:
    """Perlin's smoother step: 0 to 1, with derivatives of 0 at both ends."""
    return x * x * x * (x * (6 * x - 15) + 10)
