"""Makes noise that continues a picture, with the picture's frequencies, phases and colours."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: of this noise, for every picture: only the render's noise depends on the job's seed
_SEED = 0


def matched_noise(picture: Floats, hidden: NDArray[np.bool_], exponent: float, variation: float) -> Floats:
    """`picture` with noise in place of its hidden part.

    White noise is smoothed, given the spectrum of the visible part (magnitudes raised to `exponent`, and
    phases), and then its colours (histogram matching, Gonzalez and Woods). Source: A1111's "Outpainting mk2",
    whose noise comes from g-diffuser-bot.

    Args:
        picture: `[H, W, 3]`, 0 to 1.
        hidden: `[H, W]`; some of the picture must be hidden, and some visible.
        exponent: the lower, the more detail.
        variation: how colourful the noise is at first, 0 to 1.
    """
    seen = np.where(hidden[..., None], 0.0, picture)
    seen /= max(float(seen.max()), np.finfo(float).tiny)
    seen += picture.mean() * hidden[..., None]
    spectrum = _spectrum(seen)
    magnitude = np.maximum(np.abs(spectrum), np.finfo(float).tiny)

    noise = np.random.default_rng(_SEED).random(picture.shape)
    grey = noise.sum(axis=2, keepdims=True) / 3
    noise = noise * variation + (1 - variation) * grey
    noise = _signal(_spectrum(noise) * _window(*hidden.shape)[..., None])

    power = np.abs(_spectrum(noise)) ** 2
    shaped = _signal(power * magnitude**exponent * (spectrum / magnitude))
    shaped -= shaped.min()
    shaped /= max(float(shaped.max()), np.finfo(float).tiny)
    for channel in range(3):
        shaped[hidden, channel] = _recoloured(shaped[hidden, channel], picture[~hidden, channel])
    return np.clip(np.where(hidden[..., None], shaped, picture), 0, 1)


def _spectrum(signal: Floats) -> NDArray[np.complex128]:
    """`[H, W, C]` to its frequencies, the lowest in the middle."""
    shifted = np.fft.fft2(np.fft.fftshift(signal, axes=(0, 1)), axes=(0, 1), norm="ortho")
    return np.fft.ifftshift(shifted, axes=(0, 1))


def _signal(spectrum: NDArray[np.complex128]) -> Floats:
    """The inverse of `_spectrum`."""
    shifted = np.fft.ifft2(np.fft.fftshift(spectrum, axes=(0, 1)), axes=(0, 1), norm="ortho")
    return np.real(np.fft.ifftshift(shifted, axes=(0, 1)))


def _window(height: int, width: int) -> Floats:
    """A window `[H, W]` that falls off from the middle, and so keeps mainly low frequencies."""
    shorter = min(height, width)
    down, across = ((np.arange(side) / side * 2 - 1) * (side / shorter) for side in (height, width))
    return 1 / ((down[:, None] ** 2 + 1) * (across[None, :] ** 2 + 1))


def _recoloured(values: Floats, model: Floats) -> Floats:
    """Values changed to the distribution of `model` (histogram matching)."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    levels, level_counts = np.unique(model, return_counts=True)
    quantiles = np.cumsum(counts) / values.size
    return np.interp(quantiles, np.cumsum(level_counts) / model.size, levels)[places]
