"""Canvases: layers drawn with polygons, then lit, hazed and composited as arrays."""

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tools.demo_model.light import Colour, Light, as_float

#: floats, 32 bit unless a step needs more
Array = NDArray[Any]
Point = tuple[float, float]


class Layer:
    """Things in the same layer of the picture. Coordinates: y 0..1 from the top, x 0..aspect."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.aspect = width / height
        self._colour = Image.new("RGB", (width, height))
        self._alpha = Image.new("L", (width, height))
        self._haze = Image.new("L", (width, height))
        self._lamp = Image.new("RGB", (width, height))
        self._draws = [ImageDraw.Draw(i) for i in (self._colour, self._alpha, self._haze, self._lamp)]
        self._lit = False

    def polygon(
        self, points: Iterable[Point], colour: Colour, haze: float = 0.0, lamp: Colour | None = None
    ) -> None:
        """Fill a polygon. `haze` 0 (near) to 1 (gone); `lamp` is light of its own."""
        scaled = [(x * self.height, y * self.height) for x, y in points]
        for draw, value in self._pens(colour, haze, lamp):
            draw.polygon(scaled, fill=value)

    def ellipse(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        colour: Colour,
        haze: float = 0.0,
        lamp: Colour | None = None,
    ) -> None:
        """Fill an ellipse around (x, y)."""
        s = self.height
        box = ((x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s)
        for draw, value in self._pens(colour, haze, lamp):
            draw.ellipse(box, fill=value)

    def line(self, points: Iterable[Point], colour: Colour, thick: float, haze: float = 0.0) -> None:
        """A line; `thick` is a fraction of the height, and at least a pixel is drawn."""
        scaled = [(x * self.height, y * self.height) for x, y in points]
        for draw, value in self._pens(colour, haze, None):
            draw.line(scaled, fill=value, width=max(1, round(thick * self.height)), joint="curve")

    def _pens(
        self, colour: Colour, haze: float, lamp: Colour | None
    ) -> Iterable[tuple[ImageDraw.ImageDraw, Colour | int]]:
        self._lit = self._lit or lamp is not None
        values: tuple[Colour | int, ...] = (colour, 255, round(255 * haze), lamp or (0, 0, 0))
        return zip(self._draws, values, strict=True)

    def over(self, base: Array, light: Light, haze_colour: Array, thickness: float, grain: Array) -> Array:
        """The layer, lit by the hour and faded by distance, over `base` [H, W, 3] in 0..1.

        `thickness` scales the haze; `grain` [H, W], about 0, is texture.
        """
        colour = np.asarray(self._colour, np.float32) * (np.asarray(light.tint, np.float32) / 255)
        colour *= (1 + grain)[..., None]
        haze = np.minimum(np.asarray(self._haze, np.float32) * (thickness / 255), 1)[..., None]
        colour += (haze_colour - colour) * haze
        alpha = np.asarray(self._alpha, np.float32)[..., None] / 255
        result = base + (colour - base) * alpha
        if self._lit and light.lamp:
            result += self._bloom(light.lamp)
        return result

    def _bloom(self, strength: float) -> Array:
        lamp = np.asarray(self._lamp, np.float32) * (strength / 255)
        wide = cv2.GaussianBlur(lamp, (0, 0), self.height / 28)
        narrow = cv2.GaussianBlur(lamp, (0, 0), self.height / 90)
        return np.asarray(lamp * 0.9 + narrow * 0.6 + wide * 0.9, np.float32)


def noise(rng: np.random.Generator, height: int, width: int, cells: float, stretch: float = 1.0) -> Array:
    """Fractal noise [height, width], mean 0, deviation about 1; `cells` across the height at its widest."""
    total = np.zeros((height, width), np.float32)
    weight = 1.0
    for _ in range(4):
        rows = max(2, round(cells))
        columns = max(2, round(cells / stretch * width / height))
        grid = rng.standard_normal((rows, columns), dtype=np.float32)
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, weight = cells * 2, weight * 0.55
    return np.asarray(total / 1.0, np.float32)


def mix(a: Array, b: Array | Colour, amount: float | Array) -> Array:
    """`a` towards `b` by `amount` 0..1."""
    target = as_float(b) if isinstance(b, tuple) else b
    return np.asarray(a + (target - a) * amount, np.float32)
