"""Colour correction: the result takes on the input's colours and keeps its own luminosity."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image


def colour_target(image: Image.Image) -> NDArray[np.uint8]:
    """The LAB pixels (8 bit, ``[H, W, 3]``) of an RGB picture, whose histograms are matched later."""
    return np.asarray(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2LAB), dtype=np.uint8)


def correct_colours(image: Image.Image, target: NDArray[np.uint8]) -> Image.Image:
    """`image` (RGB) with each LAB channel's histogram matched to `target`'s, at its own luminosity.

    A1111: `apply_color_correction` (scikit-image's histogram matching, then the blend mode "luminosity").
    """
    own = np.asarray(image)
    lab = np.asarray(cv2.cvtColor(own, cv2.COLOR_RGB2LAB), dtype=np.uint8)
    matched = np.stack([_match_histogram(lab[..., i], target[..., i]) for i in range(3)], axis=-1)
    coloured = np.asarray(cv2.cvtColor(matched, cv2.COLOR_LAB2RGB), dtype=np.uint8)
    return Image.fromarray(_with_luminosity(coloured / 255, _luminosity(own / 255)))


def _match_histogram(values: NDArray[np.uint8], target: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`values` mapped so that their cumulative histogram follows `target`'s; truncated to 8 bits."""
    counts = np.bincount(values.reshape(-1), minlength=256)
    target_counts = np.bincount(target.reshape(-1), minlength=256)
    present = np.flatnonzero(target_counts)
    quantiles = np.cumsum(counts) / values.size
    target_quantiles = np.cumsum(target_counts[present]) / target.size
    table = np.interp(quantiles, target_quantiles, present).astype(np.uint8)
    return table[values]


def _with_luminosity(rgb: NDArray[np.float64], luminosity: NDArray[np.float64]) -> NDArray[np.uint8]:
    """`rgb` (0..1) shifted to `luminosity`; colours that leave the range are moved towards grey.

    Truncated to 8 bits, as in the release of blendmodes (2022) that A1111 uses. Truncation makes the order of
    floating-point operations matter, so it is that release's.
    """
    rgb = rgb + (luminosity - _luminosity(rgb))[..., None]
    grey = _luminosity(rgb)[..., None]
    low, high = rgb.min(axis=-1, keepdims=True), rgb.max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):  # the branches not taken
        rgb = np.where(low < 0, grey + (rgb - grey) * grey / (grey - low), rgb)
        rgb = np.where(high > 1, grey + (rgb - grey) * (1 - grey) / (high - grey), rgb)
    return (np.clip(rgb, 0, 1) * 255).astype(np.uint8)


def _luminosity(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    luminosity: NDArray[np.float64] = rgb[..., 0] * 0.299 + rgb[..., 1] * 0.587 + rgb[..., 2] * 0.114
    return luminosity
