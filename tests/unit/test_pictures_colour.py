"""Colour correction against its definition, pixel by pixel."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from img2img_shared.params import Params
from img2img_worker.pictures.colour import colour_target, correct_colours
from img2img_worker.pictures.prepare import prepare


def noisy(height: int, width: int, seed: int, low: int = 0, high: int = 256) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(low, high, (height, width, 3)).astype(np.uint8)


def lab(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB), dtype=np.uint8)


def corrected(image: NDArray[np.uint8], target: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One pixel at a time: quantile by quantile, then PDF's "luminosity" blend."""
    own, wanted = lab(image).reshape(-1, 3), lab(target).reshape(-1, 3)
    matched = np.empty_like(own)
    for channel in range(3):
        values = np.unique(wanted[:, channel])
        reached = [np.mean(wanted[:, channel] <= value) for value in values]
        for value in np.unique(own[:, channel]):
            quantile = np.mean(own[:, channel] <= value)
            matched[own[:, channel] == value, channel] = int(np.interp(quantile, reached, values))
    coloured = cv2.cvtColor(matched.reshape(image.shape), cv2.COLOR_LAB2RGB)
    out = np.empty_like(image)
    for at in np.ndindex(image.shape[:2]):
        red, green, blue = (image[at] / 255).tolist()
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        colour = (coloured[at] / 255).tolist()
        shift = luma - (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2])
        colour = [value + shift for value in colour]
        if min(colour) < 0:
            lowest = min(colour)
            colour = [luma + (value - luma) * luma / (luma - lowest) for value in colour]
        highest = max(colour)
        if highest > 1:
            colour = [luma + (value - luma) * (1 - luma) / (highest - luma) for value in colour]
        out[at] = [int(min(1, max(0, value)) * 255) for value in colour]
    return out


@pytest.mark.parametrize("seed", range(4))
def test_colours_follow_the_definition(seed: int) -> None:
    image = noisy(24, 31, seed)
    target = noisy(40, 17, seed + 10, low=20 * seed, high=100 + 40 * seed)
    ours = np.asarray(correct_colours(Image.fromarray(image), colour_target(Image.fromarray(target))))
    difference = np.abs(ours.astype(int) - corrected(image, target).astype(int))
    # truncation: the last bit of a float may tip a value over
    assert difference.max() <= 1
    assert difference.mean() < 0.01


def test_luminosity_stays_and_colours_move() -> None:
    grey = np.repeat(np.arange(60, 188, dtype=np.uint8).reshape(8, 16, 1), 3, axis=2)
    reddish = (grey * [1.0, 0.6, 0.6]).astype(np.uint8)
    ours = np.asarray(correct_colours(Image.fromarray(grey), colour_target(Image.fromarray(reddish)))).astype(
        int
    )
    luma = ours @ [0.299, 0.587, 0.114]
    assert np.abs(luma - grey[..., 0]).max() < 3
    assert (ours[..., 0] - ours[..., 1]).mean() > 20


def test_the_target_is_what_was_encoded() -> None:
    picture = Image.fromarray(noisy(64, 64, 3))
    params = Params(width=64, height=64, color_correction=True)
    prepared = prepare(picture, None, params)
    assert prepared.colours is not None
    np.testing.assert_array_equal(prepared.colours, lab(prepared.pixels))
    assert prepare(picture, None, Params(width=64, height=64)).colours is None
