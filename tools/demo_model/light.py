"""Colours by hour and season: sky, light, haze, grass and leaves, as floats in 0..1."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
#: floats, 32 bit unless a step needs more
Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Light:
    """One hour of the day."""

    #: sky from the zenith to the horizon
    sky: tuple[Colour, Colour, Colour]
    #: factor of the colours of lit things
    tint: tuple[float, float, float]
    #: colour that distance fades to
    haze: Colour
    #: halo around the sun or the moon
    halo: Colour
    cloud: Colour
    cloud_shade: Colour
    #: brightness of the lamps in windows; 0: off
    lamp: float


LIGHTS = {
    "dawn": Light(
        sky=((132, 158, 214), (238, 186, 200), (255, 226, 178)),
        tint=(1.0, 0.86, 0.88),
        haze=(246, 208, 204),
        halo=(255, 214, 170),
        cloud=(255, 218, 214),
        cloud_shade=(190, 162, 196),
        lamp=0.0,
    ),
    "day": Light(
        sky=((52, 124, 214), (122, 188, 240), (208, 234, 248)),
        tint=(1.0, 1.0, 0.97),
        haze=(198, 224, 242),
        halo=(255, 250, 220),
        cloud=(255, 255, 255),
        cloud_shade=(196, 208, 224),
        lamp=0.0,
    ),
    "sunset": Light(
        sky=((86, 50, 116), (220, 88, 86), (255, 176, 72)),
        tint=(1.0, 0.72, 0.62),
        haze=(228, 138, 116),
        halo=(255, 190, 90),
        cloud=(255, 140, 100),
        cloud_shade=(140, 66, 104),
        lamp=0.6,
    ),
    "night": Light(
        sky=((8, 12, 40), (20, 34, 84), (52, 76, 130)),
        tint=(0.36, 0.43, 0.68),
        haze=(48, 68, 116),
        halo=(150, 170, 220),
        cloud=(62, 76, 118),
        cloud_shade=(24, 32, 66),
        lamp=1.0,
    ),
}

GRASS: dict[str, tuple[Colour, Colour, Colour]] = {  # far, middle, near
    "spring": ((150, 196, 120), (156, 206, 92), (120, 184, 66)),
    "summer": ((96, 148, 92), (84, 156, 62), (52, 124, 44)),
    "autumn": ((176, 140, 92), (206, 158, 70), (170, 112, 46)),
    "winter": ((206, 218, 234), (230, 238, 248), (244, 248, 255)),
}
LEAVES: dict[str, tuple[Colour, ...]] = {
    "spring": ((248, 172, 200), (252, 206, 222), (176, 214, 96)),
    "summer": ((44, 118, 48), (70, 142, 50), (34, 100, 56)),
    "autumn": ((226, 112, 28), (204, 58, 34), (240, 176, 40)),
    "winter": ((214, 224, 238),),
}
NEEDLES: dict[str, Colour] = {
    "spring": (56, 122, 78),
    "summer": (24, 88, 58),
    "autumn": (66, 92, 52),
    "winter": (70, 104, 104),
}
PETALS: dict[str, tuple[Colour, ...]] = {
    "spring": ((255, 240, 130), (255, 150, 190), (255, 255, 255)),
    "summer": ((226, 60, 48), (250, 220, 80), (110, 170, 70)),
    "autumn": ((220, 90, 30), (150, 70, 30), (240, 180, 60)),
    "winter": ((206, 220, 240), (255, 255, 255)),
}
ROCK: Colour = (128, 126, 138)
SNOW: Colour = (246, 250, 255)
PATH: dict[str, Colour] = {
    "spring": (214, 190, 146),
    "summer": (208, 180, 128),
    "autumn": (180, 140, 96),
    "winter": (206, 212, 224),
}


def as_float(colour: Colour) -> Array:
    """A colour of 0..255 as [3] in 0..1."""
    return np.asarray(colour, np.float32) / 255


def shade(colour: Colour, factor: float) -> Colour:
    """The colour made darker (below 1), or lighter towards white (above 1)."""
    if factor <= 1:
        r, g, b = (round(c * factor) for c in colour)
    else:
        r, g, b = (round(c + (255 - c) * (factor - 1)) for c in colour)
    return r, g, b
