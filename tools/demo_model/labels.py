"""The labels of a picture of the drawn world, and the seed of its layout."""

from dataclasses import dataclass

import numpy as np

TIMES = ("dawn", "day", "sunset", "night")
SEASONS = ("spring", "summer", "autumn", "winter")
WEATHERS = ("clear", "cloudy", "foggy", "rainy", "snowy")
STYLES = ("flat", "watercolour", "ink", "mosaic", "pixel", "glow")
PLACES = ("hills", "lake", "coast", "village", "mountains", "forest")

_WEATHER_ODDS = {
    "winter": (0.35, 0.2, 0.15, 0.0, 0.3),
    "other": (0.45, 0.25, 0.15, 0.15, 0.0),
}
_STYLE_ODDS = (0.25, 0.2, 0.15, 0.12, 0.12, 0.16)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One picture, without its size. The same `layout` with other labels is the same view at another time."""

    place: str
    time: str
    season: str
    weather: str
    style: str
    #: seed of the positions and sizes of all things
    layout: int


def random_look(rng: np.random.Generator) -> dict[str, str]:
    """Random time, season, weather and style; it snows in winter only, and rains in other seasons only."""
    season = str(rng.choice(SEASONS))
    odds = _WEATHER_ODDS["winter" if season == "winter" else "other"]
    return {
        "time": str(rng.choice(TIMES)),
        "season": season,
        "weather": str(rng.choice(WEATHERS, p=odds)),
        "style": str(rng.choice(STYLES, p=_STYLE_ODDS)),
    }


def random_view(rng: np.random.Generator) -> tuple[str, int]:
    """Place and layout, which stay when time, season, weather and style change."""
    return str(rng.choice(PLACES)), int(rng.integers(2**31))
