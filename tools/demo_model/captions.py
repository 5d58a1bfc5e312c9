"""Captions in plain words for a scene, phrased a little differently each time, with parts left out."""

from collections.abc import Callable

import numpy as np

from tools.demo_model.labels import Scene

_PLACES = {
    "hills": ("rolling hills", "hills", "meadows and hills", "a hilly landscape", "the countryside"),
    "lake": ("a lake", "a quiet lake", "a lake between hills", "the shore of a lake", "a lake landscape"),
    "coast": ("the sea", "the coast", "a beach by the sea", "the seaside", "the ocean"),
    "village": ("a village", "a small village", "village houses", "a little town", "houses in a village"),
    "mountains": (
        "mountains",
        "high mountains",
        "a mountain landscape",
        "mountain peaks",
        "a mountain valley",
    ),
    "forest": ("a forest", "the woods", "a path through the forest", "a forest path", "woods with a path"),
}
_TIMES = {
    "dawn": ("at dawn", "at sunrise", "early in the morning", "in the morning", "dawn"),
    "day": ("by day", "at noon", "in daylight", "during the day", "daytime"),
    "sunset": ("at sunset", "at dusk", "in the evening", "under an evening sky", "sunset"),
    "night": ("at night", "by moonlight", "in the dark of night", "under the moon", "night"),
}
_SEASONS = {
    "spring": ("in spring", "in springtime", "with spring blossoms", "spring"),
    "summer": ("in summer", "in high summer", "on a summer day", "summer"),
    "autumn": ("in autumn", "in the fall", "with autumn leaves", "autumn"),
    "winter": ("in winter", "in deep winter", "covered in snow", "winter"),
}
_WEATHERS = {
    "clear": ("clear sky", "a clear sky", "fine weather", "clear"),
    "cloudy": ("clouds", "a cloudy sky", "cloudy", "cloudy weather"),
    "foggy": ("fog", "in the fog", "foggy", "mist", "misty"),
    "rainy": ("rain", "in the rain", "rainy", "rainy weather"),
    "snowy": ("snowfall", "falling snow", "snowing", "snowy weather"),
}
_STYLES = {
    "flat": ("a flat illustration", "a flat drawing", "an illustration", "flat colours"),
    "watercolour": ("a watercolour", "a watercolour painting", "a watercolor", "watercolour on paper"),
    "ink": ("an ink drawing", "pen and ink", "an ink sketch", "ink and wash"),
    "mosaic": ("a mosaic", "a tile mosaic", "a mosaic of tiles", "a mosaic picture"),
    "pixel": ("pixel art", "a pixel picture", "a pixel art picture", "pixels"),
    "glow": ("a night-light picture", "glowing neon lights", "a neon picture", "a glowing picture", "neon"),
}
_THINGS = {
    "pine": ("pine trees", "pines", "fir trees"),
    "tree": ("trees", "round trees", "old trees"),
    "house": ("a house", "a cottage", "a little house"),
    "church": ("a church", "a church tower"),
    "lighthouse": ("a lighthouse", "a tall lighthouse"),
    "windmill": ("a windmill", "an old windmill"),
    "person": ("a person", "people", "a walker", "figures"),
    "boat": ("a boat", "a sailing boat", "a sailboat", "a ship"),
    "bird": ("birds", "birds in the sky"),
}


def words() -> set[str]:
    """Every word that may be in a caption."""
    tables = (_PLACES, _TIMES, _SEASONS, _WEATHERS, _STYLES, _THINGS)
    phrases = [phrase for table in tables for phrases in table.values() for phrase in phrases]
    return {word for phrase in phrases for word in phrase.replace("-", " - ").split()} | {
        "of",
        "and",
        "with",
        ",",
    }


def caption(scene: Scene, kinds: frozenset[str], rng: np.random.Generator) -> str:
    """A caption for the scene, whose things are `kinds`; any label may be left out.

    >>> from tools.demo_model.labels import Scene
    >>> scene = Scene(place="lake", time="night", season="winter", weather="snowy", style="ink", layout=3)
    >>> caption(scene, frozenset({"boat"}), np.random.default_rng(5))
    'the shore of a lake at night, snowfall, an ink sketch, in deep winter'
    """
    pick = _picker(rng)
    subject = pick(_PLACES[scene.place])
    things = [kind for kind in sorted(kinds) if rng.random() < 0.55]
    rng.shuffle(things)
    if things:
        subject += " with " + " and ".join(pick(_THINGS[kind]) for kind in things[:3])
    style = pick(_STYLES[scene.style]) if rng.random() < 0.93 else ""
    rest = [
        pick(table[label])
        for table, label, kept in (
            (_TIMES, scene.time, 0.92),
            (_SEASONS, scene.season, 0.92),
            (_WEATHERS, scene.weather, 0.75),
        )
        if rng.random() < kept
    ]
    rng.shuffle(rest)
    match int(rng.integers(4)):
        case 0 if style:
            return _join([f"{style} of {subject}", *rest])
        case 1 if rest:
            first = (
                f"{subject} {rest[0]}" if rest[0].split()[0] in ("at", "by", "in", "on", "under") else subject
            )
            others = rest[1:] if first != subject else rest
            parts = [*others, style]
            rng.shuffle(parts)
            return _join([first, *parts])
        case 2 if style:
            return _join([style, subject, *rest])
    return _join([subject, *rest, style])


def full_caption(scene: Scene) -> str:
    """The scene's labels in one fixed order, for measuring."""
    parts = (_PLACES[scene.place], _TIMES[scene.time], _SEASONS[scene.season], _WEATHERS[scene.weather])
    return f"{_STYLES[scene.style][0]} of {_join([options[0] for options in parts])}"


def _join(parts: list[str]) -> str:
    return ", ".join(part for part in parts if part)


def _picker(rng: np.random.Generator) -> Callable[[tuple[str, ...]], str]:
    return lambda options: options[int(rng.integers(len(options)))]
